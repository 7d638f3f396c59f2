"""Workers that have ended by themselves, and what each provider is owed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

REPLACED = {
    "ix_attempts_owed": "cancel_owed AND verdict IS NULL",
    "ix_attempts_unsettled": "prediction_id IS NULL AND verdict IS NULL",
}


def upgrade() -> None:
    """Add a column that a release before this one need not write; order indexes by provider."""
    op.add_column(
        "workers", sa.Column("resigned", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    for name, where in REPLACED.items():
        op.drop_index(name, "attempts")
        condition = sa.text(where)
        op.create_index(
            name,
            "attempts",
            ["provider", "submitted_at", "id"],
            sqlite_where=condition,
            postgresql_where=condition,
        )
