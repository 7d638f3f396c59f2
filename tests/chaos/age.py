"""Old rows for a new service: an expired job, and an orphaned file."""

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from backing_services import apart
from chaos.rig import Rig
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job
from fleek.domain.transitions import cancel
from fleek.store.database import open_database
from fleek.store.jobs import insert_job
from fleek.store.updates import Update, apply
from samples import a_job

KEPT_DAYS: Final = 30
PROMPT: Final = "long ago"
NAME: Final = "7-0123456789abcdef.png"
FOREVER: Final = timedelta(days=365)


def leave_old_ones(rig: Rig) -> None:
    """Create a cancelled job that is due for removal, with a file, and an orphaned file.

    No client has submitted that job: its row at the end of a run is a violation.
    """
    rig.env["JOB_RETENTION_DAYS"] = str(KEPT_DAYS)
    process = rig.serve()
    client = rig.client(2)
    client.submit(f"young {uuid7()}")
    client.close()
    rig.settle(seconds=120)
    process.kill()
    old = apart(asyncio.run, _cancelled_long_ago(rig.env.get("DATABASE_URL") or _file(rig)))
    (young,) = rig.rows("SELECT id FROM jobs WHERE prompt LIKE 'young%' ORDER BY id DESC LIMIT 1")
    for job_id in (old.id, UUID(str(young[0]))):
        _leave_file(rig, job_id)


def left_over(rig: Rig) -> list[object]:
    """Return what has not been removed yet."""
    rows = rig.rows(f"SELECT id FROM jobs WHERE prompt = '{PROMPT}'")  # noqa: S608 - constants of this module
    walk = os.walk(rig.folder / "storage")  # folders may be removed during the search
    return [*rows, *(folder for folder, _, names in walk if NAME in names)]


async def _cancelled_long_ago(url: str) -> Job:
    now = datetime.now(UTC)
    then = now - timedelta(days=KEPT_DAYS + 1)
    job = replace(a_job(), prompt=PROMPT, created_at=then, run_at=now + FOREVER)

    def decide(current: Job, _: Attempt | None) -> Update:
        return Update(change=cancel(current, now=then))

    async with open_database(url) as db:
        await insert_job(db, job)
        await apply(db, job.id, decide)
    return job


def _leave_file(rig: Rig, job_id: UUID) -> None:
    path = rig.folder / "storage" / "media" / str(job_id) / str(uuid7()) / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"left")
    then = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    os.utime(path, (then, then))


def _file(rig: Rig) -> str:
    return f"sqlite:///{rig.folder}/fleek.db"
