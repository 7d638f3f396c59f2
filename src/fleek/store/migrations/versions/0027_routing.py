"""Routes of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Add a column that an earlier release does not write: its jobs have one route."""
    op.add_column("jobs", sa.Column("routing", sa.JSON(none_as_null=True), nullable=True))
