"""Positions of events in the stream of their tenant; see `fleek.store.event_stream`.

Events of before have none. On SQLite a trigger counts; a later migration that makes the table
`events` anew has to make it anew, too.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

COUNT = (
    "CREATE TRIGGER events_position AFTER INSERT ON events BEGIN"
    " UPDATE event_stream SET position = position + 1; END"
)


def upgrade() -> None:
    """Add columns that an earlier release does not write, and the row that positions start from."""
    op.add_column("events", sa.Column("tenant_id", sa.String(length=64), nullable=True))
    op.add_column("events", sa.Column("position", sa.BigInteger(), nullable=True))
    stream = op.create_table(
        "event_stream",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event_stream"),
    )
    op.bulk_insert(stream, [{"id": 1, "position": 1}])
    if op.get_bind().dialect.name == "sqlite":
        op.get_bind().exec_driver_sql(COUNT)
