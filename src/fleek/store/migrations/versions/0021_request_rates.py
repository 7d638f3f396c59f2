"""Rates of requests."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Make a table that an earlier release does not know."""
    op.create_table(
        "request_rates",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("full_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_request_rates"),
    )
