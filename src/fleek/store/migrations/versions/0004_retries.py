"""Which job is the retry of which."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add a column that a release before this one need not write, and its index."""
    op.add_column("jobs", sa.Column("retry_of", sa.Uuid(), nullable=True))
    condition = sa.text("retry_of IS NOT NULL")
    op.create_index(
        "ix_jobs_retries",
        "jobs",
        ["retry_of", "id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
