"""Accept many requests at once: all are checked, then they become jobs in groups.

Nothing is stored before all members are checked. Then the batch is stored with its idempotency key,
and its members in their order, each group in one commit that says how many there are. So a request that
was interrupted continues where it ended when it is repeated with its key.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.audit import COMMAND_LINE, Actor
from fleek.domain.batch import Batch
from fleek.domain.charges import Charge, charge_of
from fleek.domain.errors import (
    DatabaseUnavailable,
    FieldError,
    FleekError,
    InvalidInput,
    RequestError,
    TooManyJobs,
)
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import BatchId, Job, JobId, JobRequest, Status
from fleek.domain.values import dataclass
from fleek.engine import bulk
from fleek.engine.apply import insert_members
from fleek.engine.reuse import reuse_since
from fleek.engine.runtime import Runtime
from fleek.engine.submit import checked
from fleek.engine.tenants import limits_of
from fleek.store import batches, inputs
from fleek.store.bulk import BulkAction, BulkOperation

GROUP: Final = 100  # members in one commit
MOST_ERRORS: Final = 20
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between tries to write a group

Members = Callable[[], Generator[JobRequest]]
"""Reads the members anew; in threads, as it may read a file."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    """The outcome of a request that creates a batch."""

    batch: Batch
    replayed: bool  # whether an earlier request, which this one repeats, has created it


async def accept_batch(
    rt: Runtime, batch: Batch, members: Members, identity: RequestIdentity
) -> AcceptedBatch:
    """Accept all members of a batch, or what is left of the one that the request repeats.

    Raises:
        IdempotencyKeyReused: The key of the request is that of another one.
        InvalidInput: Members are not acceptable, which `errors` names; nothing is accepted.
        TooManyJobs: The tenant may not have so many unfinished jobs.
        DatabaseUnavailable: Not all members are accepted; with its key, the request can be repeated.
        StorageFull: Likewise.
    """
    found = await batches.find_earlier(rt.db, identity, now=rt.now())
    if found is None:
        rt.capacity.check()
        charge = await _check(rt, members)
        max_live = (await limits_of(rt, batch.tenant_id)).max_live_jobs
        found = await batches.create(
            rt.db, batch, identity=identity, max_live=max_live, charge=charge
        )
        failpoints.hit("batch.created")
    replayed = found.id != batch.id
    if replayed:
        log.info("batch_replayed", batch_id=str(found.id), accepted=found.accepted)
    if not found.complete:
        found = await _go_on(rt, found, members, keyed=identity.key is not None)
    return AcceptedBatch(found, replayed)


async def cancel_batch(
    rt: Runtime, batch_id: BatchId, *, tenant_id: str, by: Actor = COMMAND_LINE
) -> BulkOperation:
    """Accept no further member of a batch, and cancel those of its jobs that have not ended.

    Raises:
        NotFound: There is no such batch.
        Conflict: Too many operations of the tenant have not ended.
    """
    await batches.close(rt.db, batch_id, tenant_id=tenant_id, now=rt.now())
    wanted = batches.members(batch_id)
    return await bulk.accept(rt, BulkAction.CANCEL, tenant_id=tenant_id, by=by, wanted=wanted)


async def retry_batch(
    rt: Runtime, batch_id: BatchId, *, tenant_id: str, by: Actor = COMMAND_LINE
) -> BulkOperation:
    """Retry the members of a batch that failed.

    Raises:
        NotFound: There is no such batch.
        Conflict: Too many operations of the tenant have not ended.
    """
    await batches.get(rt.db, batch_id, tenant_id=tenant_id)
    wanted = batches.members(batch_id, frozenset({Status.FAILED}))
    return await bulk.accept(rt, BulkAction.RETRY, tenant_id=tenant_id, by=by, wanted=wanted)


async def _check(rt: Runtime, members: Members) -> Charge | None:
    """Check all members; returns what they cost together, as far as is known.

    Raises:
        InvalidInput: Some are not acceptable.
    """
    errors: list[FieldError] = []
    charge: Charge | None = None
    index = 0
    async with aclosing(_groups(members)) as groups:
        async for group in groups:
            jobs: list[Job] = []
            for request in group:
                try:
                    jobs.append(replace(await checked(rt, request), batch_index=index))
                except InvalidInput as error:
                    errors += at_member(index, error)
                index += 1
            refused = await inputs.check_now(rt.db, jobs)
            for job in jobs:
                before = 0 if charge is None else charge.estimate or 0
                charge = replace(charge_of(job), estimate=before + (job.estimate or 0))
                if job.id in refused:
                    errors += at_member(job.batch_index or 0, refused[job.id])
            if len(errors) >= MOST_ERRORS:
                break
    if errors:
        raise refusal(errors)
    return charge


def refusal(errors: Sequence[FieldError]) -> InvalidInput:
    """Return the error of a batch some of whose members are not acceptable."""
    first = errors[0]
    where = first.pointer.removeprefix("/").replace("/", ".")
    return InvalidInput(f"{where}: {first.detail}", code=first.code, errors=errors[:MOST_ERRORS])


def at_member(index: int, error: FleekError) -> list[FieldError]:
    """Return the mistakes of a member, at their place in the batch."""
    at = f"/requests/{index}"
    found = error.errors if isinstance(error, InvalidInput) else ()
    if not found:
        return [FieldError(at, error.code, str(error))]
    code = error.code if error.code != InvalidInput.code else None
    return [
        replace(
            each,
            pointer=at + each.pointer,
            code=code or each.code,
            suggestion=None if each.suggestion is None else at + each.suggestion,
        )
        for each in found
    ]


async def _groups(members: Members) -> AsyncGenerator[list[JobRequest]]:
    with closing(members()) as reading:
        while group := await asyncio.to_thread(list, islice(reading, GROUP)):
            yield group


async def _go_on(rt: Runtime, batch: Batch, members: Members, *, keyed: bool) -> Batch:
    """Accept the members that are left.

    A batch that cannot go on is cancelled, for nobody knows how many of its jobs exist.
    """
    accepted = batch.accepted
    try:
        async with aclosing(_groups(members)) as groups:
            index = 0
            async for group in groups:
                following = list(enumerate(group, index))[max(accepted - index, 0) :]
                index += len(group)
                if following:
                    accepted = await _add(rt, batch, following)
    except (FleekError, OSError) as error:
        lasting = isinstance(error, RequestError) and not isinstance(error, TooManyJobs)
        if lasting or not keyed:
            with suppress(FleekError):
                await cancel_batch(rt, batch.id, tenant_id=batch.tenant_id)
        raise
    finally:
        rt.wakeups.notify("admit")
    return replace(batch, accepted=accepted)


async def _add(rt: Runtime, batch: Batch, following: Sequence[tuple[int, JobRequest]]) -> int:
    """Accept members that follow each other, as far as nobody else has done so meanwhile."""
    jobs: list[Job] = []
    since: dict[JobId, datetime] = {}
    for index, request in following:
        try:
            job = await checked(rt, request)
        except InvalidInput as error:
            raise refusal(at_member(index, error)) from error
        jobs.append(replace(job, batch_id=batch.id, batch_index=index))
        if (reusable := reuse_since(job, request)) is not None:
            since[job.id] = reusable
    max_live = (await limits_of(rt, batch.tenant_id)).max_live_jobs
    for pause in (*PAUSES, None):
        try:
            accepted = await insert_members(
                rt, batch.id, jobs, max_live=max_live, reuse_since=since
            )
        except DatabaseUnavailable:  # whatever was written is known by the next try
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            if accepted <= following[-1][0]:  # another has accepted some of them, in other groups
                left = [each for each in following if each[0] >= accepted]
                return await _add(rt, batch, left)
            return accepted
    raise AssertionError
