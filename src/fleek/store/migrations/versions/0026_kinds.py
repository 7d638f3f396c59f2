"""Kinds of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Add a column that an earlier release does not write; jobs that it completed have no kind."""
    op.add_column("jobs", sa.Column("kind", sa.String(length=16), nullable=True))
