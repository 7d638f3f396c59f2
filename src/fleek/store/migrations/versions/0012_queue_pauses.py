"""Pauses of the queue by an operator."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make a table that an earlier release does not know."""
    op.create_table(
        "queue_pauses",
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=400), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", name="pk_queue_pauses"),
    )
