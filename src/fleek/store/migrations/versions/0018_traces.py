"""Trace contexts of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add a column that an earlier release does not write."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(length=55), nullable=True))
