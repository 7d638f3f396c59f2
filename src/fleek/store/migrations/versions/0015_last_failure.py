"""When an endpoint last failed, so that two separate outages do not count as one."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add a column that an earlier release does not write."""
    op.add_column("endpoints", sa.Column("last_failure_at", sa.DateTime(timezone=True)))
