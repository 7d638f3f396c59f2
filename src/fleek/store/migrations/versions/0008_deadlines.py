"""How long a job may take, counted from the time for which it was asked."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add a column that an earlier release does not write."""
    op.add_column("jobs", sa.Column("deadline_after_seconds", sa.Float(), nullable=True))
