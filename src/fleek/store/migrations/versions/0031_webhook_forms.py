"""The form of webhooks of a job's own URL, which also says how they are signed."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Add a column that an earlier release does not write: its webhooks have our own form."""
    op.add_column("deliveries", sa.Column("form", sa.String(length=16), nullable=True))
