"""The account of a provider that an attempt was made with."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Add a column that an earlier release does not write: it knows one key of each provider."""
    op.add_column("attempts", sa.Column("account", sa.String(length=40), nullable=True))
