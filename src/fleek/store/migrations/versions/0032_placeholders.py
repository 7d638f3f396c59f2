"""Tiny inline pictures of files."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Add a column that an earlier release does not write; it is filled when a thumbnail is made."""
    op.add_column("media", sa.Column("placeholder", sa.String(length=300), nullable=True))
