"""What a job may cost."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Add a column that an earlier release does not write: its jobs may cost anything."""
    op.add_column("jobs", sa.Column("max_cost", sa.BigInteger(), nullable=True))
