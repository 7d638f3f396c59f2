"""Jobs that have the files of an equal one."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Add columns that an earlier release does not write."""
    op.add_column("jobs", sa.Column("reused_from", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("content", sa.LargeBinary(), nullable=True))
