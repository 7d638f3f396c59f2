"""The time that processes on one machine share, its leaps, and the provider's at a purchase."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what a release before this one need not write."""
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("skipped_seconds", sa.Float(), nullable=False),
        sa.Column("boot", sa.String(length=100), nullable=True),
        sa.Column("steady", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_clock"),
    )
    op.add_column("attempts", sa.Column("provider_time", INSTANT, nullable=True))
