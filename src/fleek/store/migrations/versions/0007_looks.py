"""How often, and when last, a search found no prediction of an attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add columns that an earlier release does not write."""
    op.add_column(
        "attempts", sa.Column("empty_looks", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column("attempts", sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True))
