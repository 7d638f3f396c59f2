"""Costs: charges, budgets and what is spent of them."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Add tables, and columns that an earlier release does not write."""
    for table in ("jobs", "attempts"):
        op.add_column(table, sa.Column("estimate", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("charged_on", sa.String(length=10), nullable=True))
        op.add_column(table, sa.Column("cost", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("charged", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "charges",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=80), nullable=True),
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=400), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("estimate", sa.BigInteger(), nullable=True),
        sa.Column("actual", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_charges"),
    )
    op.create_index("ix_charges_usage", "charges", ["tenant_id", "day"])
    op.create_table(
        "budgets",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=80), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("limit_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "period", name="pk_budgets"),
    )
    op.create_table(
        "spend",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=80), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("start", sa.String(length=10), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "period", "start", name="pk_spend"),
    )
