"""Jobs, attempts, events, media, workers, roles and tallies."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INSTANT = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON(none_as_null=True)
HOT = ("jobs", "attempts")  # rows change many times a second: clean up early


def upgrade() -> None:
    """Make the first schema."""
    _jobs()
    _roles()
    _tallies()
    _workers()
    _attempts()
    _events()
    _media()
    op.execute(
        "INSERT INTO roles (name, expires_at) VALUES ('coordinator', '2000-01-01 00:00:00')"
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in HOT:
            op.execute(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.01,"
                " autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,"
                " autovacuum_analyze_scale_factor = 0.02, fillfactor = 85)"
            )


def _partial(name: str, table: str, columns: Sequence[str], *, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=400), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("input", DOCUMENT, nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("run_at", INSTANT, nullable=False),
        sa.Column("deadline", INSTANT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("deferrals", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("collects", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("prediction_id", sa.String(length=400), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("completed_at", INSTANT, nullable=True),
        sa.Column("purged_at", INSTANT, nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    _partial("ix_jobs_deadline", "jobs", ["deadline"], where="completed_at IS NULL")
    _partial("ix_jobs_due", "jobs", ["priority", "run_at", "id"], where="status = 'pending'")
    _partial("ix_jobs_held", "jobs", ["worker_id"], where="worker_id IS NOT NULL")
    op.create_index("ix_jobs_list", "jobs", ["tenant_id", "id"])
    op.create_index("ix_jobs_list_by_status", "jobs", ["tenant_id", "status", "id"])
    _partial(
        "ix_jobs_uncollected",
        "jobs",
        ["run_at"],
        where="stage = 'collecting' AND worker_id IS NULL",
    )


def _roles() -> None:
    op.create_table(
        "roles",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_roles"),
    )


def _tallies() -> None:
    op.create_table(
        "tallies",
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lane", "status", name="pk_tallies"),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("heartbeat_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("freed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    _partial("ix_workers_alive", "workers", ["heartbeat_at"], where="ended_at IS NULL")
    _partial("ix_workers_unfreed", "workers", ["ended_at"], where="NOT freed")


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=400), nullable=False),
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("submitted_at", INSTANT, nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("prediction_id", sa.String(length=400), nullable=True),
        sa.Column("first_look_at", INSTANT, nullable=True),
        sa.Column("result", DOCUMENT, nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("cancel_owed", sa.Boolean(), nullable=False),
        sa.Column("metrics", DOCUMENT, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("job_id", "n", name="uq_attempts_job_id_n"),
        sa.UniqueConstraint(
            "provider", "prediction_id", name="uq_attempts_provider_prediction_id"
        ),
    )
    _partial(
        "ix_attempts_bound",
        "attempts",
        ["first_look_at", "id"],
        where="prediction_id IS NOT NULL AND verdict IS NULL",
    )
    _partial(
        "ix_attempts_owed", "attempts", ["submitted_at"], where="cancel_owed AND verdict IS NULL"
    )
    _partial(
        "ix_attempts_unsettled",
        "attempts",
        ["submitted_at", "id"],
        where="prediction_id IS NULL AND verdict IS NULL",
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("data", DOCUMENT, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id"),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_events"),
    )


def _media() -> None:
    op.create_table(
        "media",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("content_type", sa.String(length=100), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_media_attempt_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_media_job_id"),
        sa.PrimaryKeyConstraint("job_id", "attempt_id", "index", name="pk_media"),
    )
