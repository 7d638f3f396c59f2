"""What was purged of a job, and the ways to find what is to be."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INSTANT = sa.DateTime(timezone=True)
WANTED = {
    "ix_jobs_ended": "completed_at IS NOT NULL",
    "ix_jobs_media_kept": "status = 'completed' AND purged_at IS NULL",
    "ix_jobs_metadata_kept": "status = 'completed' AND metadata_purged_at IS NULL",
}


def upgrade() -> None:
    """Add columns that a release before this one need not write, and their indexes."""
    op.add_column("jobs", sa.Column("metadata_purged_at", INSTANT, nullable=True))
    op.add_column(
        "jobs", sa.Column("purging", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    for name, condition in WANTED.items():
        _partial(name, ["completed_at", "id"], where=condition)
    _partial("ix_jobs_purging", ["updated_at", "id"], where="purging")
    op.create_index("ix_media_attempt", "media", ["attempt_id"])


def _partial(name: str, columns: list[str], *, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "jobs", columns, sqlite_where=condition, postgresql_where=condition)
