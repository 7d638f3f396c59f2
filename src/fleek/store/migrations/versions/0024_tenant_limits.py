"""Limits of tenants, and tenants that are disabled."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add columns that an earlier release does not write."""
    op.add_column("tenants", sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("tenants", sa.Column("limits", sa.JSON(none_as_null=True), nullable=True))
