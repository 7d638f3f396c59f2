"""Completed jobs and their files in the storage."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fakes import PNG, WELL, Clock, FakeProvider, a_request
from fleek.domain.job import Job, JobId, Status
from fleek.domain.media import Key
from fleek.engine.collect import collect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.providers.base import Outcome
from fleek.store import jobs


async def completed(rt: Runtime, provider: FakeProvider, *, outcome: Outcome = WELL) -> Job:
    """Submit a job and run it to completion."""
    await rt.lease.beat()
    provider.at_once, provider.outcome = True, outcome
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)
    done = await jobs.get_any_tenant(rt.db, job.id)
    assert done.status is Status.COMPLETED
    return done


async def submit_and_start(rt: Runtime, provider: FakeProvider) -> Job:
    """Submit and start a job whose prediction keeps running."""
    provider.at_once, provider.outcome = False, None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def every_key(rt: Runtime) -> set[Key]:
    """Return all keys in the storage."""
    return {entry.key async for entry in rt.storage.keys()}  # noqa: SIM118 - a storage is not a dict


async def left_of(rt: Runtime, job_id: JobId) -> set[str]:
    """Return which parts of a job are in the storage."""
    return {key.partition("/")[0] for key in await every_key(rt) if str(job_id) in key}


async def save(rt: Runtime, key: Key) -> Key:
    """Store a file to which no row refers."""
    part = rt.storage.spool() / "part"
    part.write_bytes(PNG)
    await rt.storage.save(key, part, content_type="image/png")
    return key


def with_settings(rt: Runtime, **changes: Any) -> Runtime:
    """Return the runtime with other settings."""
    return replace(rt, settings=rt.settings.model_copy(update=changes))


def days_pass(clock: Clock, days: float) -> None:
    """Move the clock on, also beyond the modification time of new files."""
    clock.time = max(clock.time, datetime.now(UTC)) + timedelta(days=days)
