"""Bulk data: many finished jobs, and a few in every other state."""

from collections.abc import Sequence
from string import Template
from typing import Final

from fleek.store.database import Database, open_database
from fleek.store.migrate import migrate
from fleek.store.tables import INDEXES

ROWS: Final = 100_000

WORDS: Final = {  # SQL that differs between the two databases
    "sqlite": {
        "numbers": (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $rows)"
        ),
        "job": "printf('%032x', i)",
        "batch": "printf('%032x', i % 10000)",
        "digest": "CAST('digest' || i AS BLOB)",
        "attempt": "printf('a%031x', i)",
        "worker": "printf('b%031x', i % 50)",
        "time": "strftime('%Y-%m-%d %H:%M:%f000', '2026-01-01', ($seconds) || ' seconds')",
    },
    "postgresql": {
        "numbers": "WITH n(i) AS (SELECT generate_series(1, $rows))",
        "job": "lpad(to_hex(i), 32, '0')::uuid",
        "batch": "lpad(to_hex(i % 10000), 32, '0')::uuid",
        "digest": "convert_to('digest' || i, 'UTF8')",
        "attempt": "('a' || lpad(to_hex(i), 31, '0'))::uuid",
        "worker": "('b' || lpad(to_hex(i % 50), 31, '0'))::uuid",
        "time": "timestamptz '2026-01-01 00:00+00' + ($seconds) * interval '1 second'",
    },
}

# Of every 100 jobs two are pending, one of them for later, and six are processing.
STATUS: Final = """CASE WHEN $state < 2 THEN 'pending' WHEN $state < 8 THEN 'processing'
    WHEN i % 10 = 9 THEN 'failed' ELSE 'completed' END"""
STAGE: Final = """CASE $state WHEN 2 THEN 'waiting' WHEN 3 THEN 'waiting' WHEN 4 THEN 'starting'
    WHEN 5 THEN 'unknown' WHEN 6 THEN 'collecting' WHEN 7 THEN 'collecting' END"""

INSERTS: Final = (
    """INSERT INTO workers (id, host, pid, version, slots, started_at, heartbeat_at, ended_at, freed)
    $numbers SELECT $worker, 'here', i, '1', 4, $at, $at, CASE WHEN i % 50 > 3 THEN $at END,
    i % 50 > 5 FROM n WHERE i <= 50""",
    """INSERT INTO jobs (id, tenant_id, provider, model, prompt, input, metadata, priority,
    max_attempts, run_at, deadline, created_at, updated_at, status, stage, attempt, retries,
    deferrals, crashes, collects, worker_id, attempt_id, prediction_id, completed_at,
    favourite, kind, batch_id, batch_index, content, version)
    $numbers SELECT $job, CASE i % 7 WHEN 0 THEN 'other' ELSE 'default' END, 'fake',
    CASE i % 1000 WHEN 8 THEN 'fake/rare' ELSE 'fake/model' END, 'A ' || CASE i % 4 WHEN 0 THEN 'red' ELSE 'blue' END || ' cat, no. ' || (i % 1000), '{}', '{}', i % 10, 3,
    CASE WHEN $state = 1 THEN $later ELSE $at END, $deadline, $at, $at, $status, $stage, 1, 0,
    0, 0, 0, CASE WHEN $state IN (4, 7) THEN $worker END, $attempt, 'p' || i,
    CASE WHEN $state > 7 THEN $at END, i % 500 = 8,
    CASE WHEN $state > 7 AND i % 10 <> 9 THEN CASE i % 500 WHEN 8 THEN 'audio' ELSE 'image' END END, CASE WHEN $state > 50 THEN $batch END, i / 10000, $digest, 5 FROM n""",
    """INSERT INTO attempts (id, job_id, n, provider, model, nonce, request_hash, submitted_at,
    timeout_seconds, worker_id, prediction_id, first_look_at, verdict, cancel_owed)
    $numbers SELECT $attempt, $job, 1, 'fake', 'fake/model', 'nonce', 'hash' || i, $at, 3600,
    $worker, CASE WHEN $state NOT IN (4, 5) THEN 'p' || i END, $at,
    CASE WHEN $state > 5 THEN 'succeeded' END, $state = 3 FROM n WHERE $state > 1""",
    """INSERT INTO events (job_id, seq, type, data, at, tenant_id, position)
    $numbers SELECT $job, 1, 'submitted', '{}', $at,
    CASE i % 7 WHEN 0 THEN 'other' ELSE 'default' END, i FROM n""",
    """INSERT INTO media (job_id, attempt_id, "index", key, sha256, size_bytes, content_type)
    $numbers SELECT $job, $attempt, 0, 'media/' || i, 'hash', 1, 'image/png' FROM n
    WHERE ($status) = 'completed'""",
    """INSERT INTO job_tags (tenant_id, tag, job_id)
    $numbers SELECT CASE i % 7 WHEN 0 THEN 'other' ELSE 'default' END, 'sea', $job FROM n
    WHERE i % 10 = 8""",
    """INSERT INTO idempotency_keys (tenant_id, key, digest, job_id, created, created_at)
    $numbers SELECT CASE i % 7 WHEN 0 THEN 'other' ELSE 'default' END, 'key' || i, $digest, $job,
    true, $at FROM n WHERE i % 50 = 17""",
    """INSERT INTO unkeyed_requests (created_at, job_id, digest)
    $numbers SELECT $at, $job, $digest FROM n""",
    """INSERT INTO deliveries (id, tenant_id, lane, endpoint_id, job_id, seq, type, body,
    created_at, state, failures, attempts, next_at, ended_at)
    $numbers SELECT $job, CASE i % 7 WHEN 0 THEN 'other' ELSE 'default' END, $worker, $worker, $job,
    1, 'job.completed', $digest, $at,
    CASE $delivery WHEN 8 THEN 'pending' WHEN 9 THEN 'failed' ELSE 'delivered' END, 0, 1,
    CASE $delivery WHEN 8 THEN $at END, CASE WHEN $delivery <> 8 THEN $at END FROM n""",
    """INSERT INTO uploads (id, tenant_id, key, sha256, kept_sha256, size_bytes, content_type,
    created_at, expires_at, stored)
    $numbers SELECT $job, CASE i % 7 WHEN 0 THEN 'other' ELSE 'default' END, 'uploads/' || i,
    'hash' || i, CASE WHEN $state <> 4 THEN 'hash' || i END, 1, 'image/png', $at, $at, true
    FROM n WHERE i <= $few""",
    """INSERT INTO job_inputs (job_id, number, upload_id, source_id, waiting)
    $numbers SELECT $job, 0, CASE WHEN i % 2 = 0 THEN $job END, CASE WHEN i % 2 = 1 THEN $job END,
    $state = 1 FROM n WHERE $state < 8""",
    """INSERT INTO batches (id, tenant_id, total, accepted, created_at)
    $numbers SELECT $job, CASE i % 7 WHEN 0 THEN 'other' ELSE 'default' END, 10, 10, $at
    FROM n WHERE i <= $few""",
    """INSERT INTO tallies (lane, status, jobs)
    SELECT 0, status, count(*) FROM jobs GROUP BY status""",
)

DROPS: Final = [f"DROP INDEX IF EXISTS {index.name}" for index in INDEXES]
"""Of what `migrate` builds again."""


async def insert_jobs(url: str, *, rows: int = ROWS, live: int | None = None) -> None:
    """Fill a database with jobs, attempts, events, files, workers and counters.

    One job is submitted in each second; of the last `live` ones 8 % have not ended, by default of
    all. The indexes are built when the rows are there, which is faster. It takes as long as it
    takes: a busy machine needs a minute for one of these statements.
    """
    async with open_database(url) as db:
        await migrate(db)
        words = _words(WORDS[db.kind], rows, rows if live is None else live)
        inserts = [Template(insert).substitute(words) for insert in INSERTS]
        await (_fill_postgresql if db.kind == "postgresql" else _fill_sqlite)(db, inserts)


async def _fill_sqlite(db: Database, inserts: Sequence[str]) -> None:
    async with db.write() as tx:
        for statement in (*DROPS, *inserts):
            await tx.exec_driver_sql(statement)
    await migrate(db)


async def _fill_postgresql(db: Database, inserts: Sequence[str]) -> None:
    async with db.session() as session:  # without a limit of time
        await session.execute("SET session_replication_role = replica")  # checks no references
        for statement in (*DROPS, *inserts):
            await session.execute(statement)
        await migrate(db)
        await session.execute("VACUUM ANALYZE")  # as autovacuum does


def _words(own: dict[str, str], rows: int, live: int) -> dict[str, str]:
    time, ended = Template(own["time"]), rows - live
    state = f"(CASE WHEN i > {ended} THEN i % 100 ELSE 8 + i % 92 END)"
    return {
        **own,
        "numbers": Template(own["numbers"]).substitute(rows=rows),
        "few": str(min(rows, ROWS)),
        "state": state,
        "delivery": f"(CASE WHEN i > {ended} THEN i % 200 ELSE 9 + i % 191 END)",
        "at": time.substitute(seconds=f"i + {ROWS - rows}"),
        "later": time.substitute(seconds="400000000 + i"),
        "deadline": time.substitute(seconds=f"86400 + i + {ROWS - rows}"),
        "status": Template(STATUS).substitute(state=state),
        "stage": Template(STAGE).substitute(state=state),
    }
