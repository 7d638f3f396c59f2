"""Ended workers are found by the jobs that they hold; whether they were freed is not kept any more."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Drop an index that no query uses."""
    op.drop_index("ix_workers_unfreed", table_name="workers", if_exists=True)
