"""Whether a worker has ended by itself."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add a column that a release before this one need not write."""
    op.add_column(
        "workers", sa.Column("resigned", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
