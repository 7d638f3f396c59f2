"""Which job is the retry of which."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add a column that an earlier release need not write."""
    op.add_column("jobs", sa.Column("retry_of", sa.Uuid(), nullable=True))
