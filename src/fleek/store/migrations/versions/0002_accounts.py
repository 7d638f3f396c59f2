"""Accounts, and the queue of each provider apart from the others'."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INSTANT = sa.DateTime(timezone=True)
PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    """Make the table; what is due is found by provider first."""
    op.create_table(
        "accounts",
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=400), nullable=False),
        sa.Column("paused_until", INSTANT, nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", name="pk_accounts"),
    )
    op.drop_index("ix_jobs_due", "jobs")
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["provider", "priority", "run_at", "id"],
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )
