"""Jobs of a restored database, which are searched for before they are started."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    """Add a column that an earlier release does not write; a restore fills it."""
    op.add_column("jobs", sa.Column("search_since", sa.DateTime(timezone=True), nullable=True))
