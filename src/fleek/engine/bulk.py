"""Operations on many jobs: accepted at once, done page by page by the coordinator.

A page that a crash interrupts is done again. That is safe: to cancel or purge a job twice is the same
as once, and a job that has been retried since the operation was accepted is not retried again.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from fleek import failpoints
from fleek.domain.audit import COMMAND_LINE, Action, Actor, AuditEntry, entry
from fleek.domain.errors import Conflict, NotFound, RequestError, TooMany
from fleek.domain.job import TERMINAL, JobFilter, JobId, Status
from fleek.engine.cancel import cancel
from fleek.engine.purge import purge
from fleek.engine.runtime import Runtime
from fleek.engine.submit import retry
from fleek.store import batches, bulk, jobs, listing
from fleek.store.bulk import BulkAction, BulkOperation, OperationId

PAGE: Final = 100  # jobs
CONCURRENT: Final = 20
IDLE: Final = timedelta(seconds=2)
KEPT: Final = timedelta(days=7)  # operations that have ended

MEANT: Final[Mapping[BulkAction, frozenset[Status]]] = {
    BulkAction.CANCEL: frozenset(Status) - TERMINAL,
    BulkAction.RETRY: frozenset({Status.FAILED}),
    BulkAction.PURGE: TERMINAL,
}
"""The jobs that an action is for, unless its filter names statuses."""

Result = Literal["changed", "skipped", "failed"]

log = structlog.get_logger(__name__)


async def accept(
    rt: Runtime,
    action: BulkAction,
    *,
    tenant_id: str,
    by: Actor = COMMAND_LINE,
    ids: Sequence[JobId] = (),
    wanted: JobFilter | None = None,
) -> BulkOperation:
    """Accept an operation on these jobs, or on those that a filter lets through now.

    When this returns, it will be done, whatever happens to the process.

    Raises:
        Conflict: Too many operations of the tenant have not ended.
        DatabaseUnavailable: It is not known to be accepted.
    """
    now = rt.now()
    if wanted is not None:
        latest = now + timedelta(microseconds=1)  # and not what it makes by itself
        before = min(wanted.created_before or latest, latest)
        statuses = wanted.statuses or MEANT[action]
        wanted = replace(wanted, statuses=statuses, created_before=before, oldest_first=True)
    operation = BulkOperation(
        id=OperationId(uuid7()),
        tenant_id=tenant_id,
        key_id=by.key_id,
        action=action,
        ids=tuple(sorted({str(job_id) for job_id in ids})),
        wanted=wanted,
        matched=len(set(ids))
        if wanted is None
        else await listing.count(rt.db, wanted, tenant_id=tenant_id),
        created_at=now,
    )
    await bulk.accept(rt.db, operation, audit=_line(operation, by))
    rt.wakeups.notify("bulk")
    return operation


def _line(operation: BulkOperation, by: Actor) -> AuditEntry | None:
    """Return the line of the audit log: one for a purge, however many jobs it is of."""
    if operation.action is not BulkAction.PURGE:
        return None
    return entry(
        Action.JOBS_PURGED,
        str(operation.id),
        by=by,
        tenant_id=operation.tenant_id,
        at=operation.created_at,
        matched=operation.matched,
    )


class BulkOperations:
    """The turns of the loop `bulk` during one leadership: a page of one operation each."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt

    async def turn(self) -> timedelta:
        """Do the next page of an operation; returns the time until the next turn."""
        rt = self._rt
        operation = await bulk.next_open(rt.db)
        if operation is None:
            return IDLE
        job_ids, position = await self._page(operation)
        try:
            results = Counter(await self._done(operation, job_ids))
        except TooMany:  # the page is done again when there is room; first those of others
            await bulk.advance(rt.db, replace(operation, pages=operation.pages + 1))
            return IDLE
        after = replace(
            operation,
            position=position,
            pages=operation.pages + 1,
            changed=operation.changed + results["changed"],
            skipped=operation.skipped + results["skipped"],
            failed=operation.failed + results["failed"],
            ended_at=rt.now() if position is None else None,
        )
        failpoints.hit("bulk.advance")
        await bulk.advance(rt.db, after)
        if after.ended_at is not None:
            await bulk.remove_ended(rt.db, before=after.ended_at - KEPT)
            log.info("bulk_ended", action=after.action, changed=after.changed, failed=after.failed)
        return timedelta(0)

    async def _page(self, operation: BulkOperation) -> tuple[list[JobId], JobId | None]:
        """Return the jobs of the next page, and its end; None: it is the last one."""
        if operation.wanted is None:
            begun = "" if operation.position is None else str(operation.position)
            left = [JobId(UUID(one)) for one in operation.ids if one > begun]
            return left[:PAGE], left[PAGE - 1] if len(left) > PAGE else None
        page = await listing.page(
            self._rt.db,
            operation.wanted,
            tenant_id=operation.tenant_id,
            limit=PAGE,
            after=operation.position,
        )
        return [view.job.id for view in page.views], page.after

    async def _done(self, operation: BulkOperation, job_ids: Sequence[JobId]) -> list[Result]:
        """Do it to these jobs, some at a time.

        Raises:
            HostError: Something is not available now; the page has to be done again.
            TooMany: The tenant has reached a limit; likewise.
        """
        slots = asyncio.Semaphore(CONCURRENT)

        async def one(job_id: JobId) -> Result:
            async with slots:
                return await self._do(operation, job_id)

        return await asyncio.gather(*map(one, job_ids))

    async def _is_retried(self, operation: BulkOperation, job_id: JobId) -> bool:
        """Whether a job is not to be retried: it was, or a later job stands for it in its batch."""
        if operation.wanted is not None and operation.wanted.batch_id is not None:
            return await batches.is_superseded(self._rt.db, job_id)
        # also if that retry has failed meanwhile: it was paid for
        return await jobs.was_retried(self._rt.db, job_id, since=operation.created_at)

    async def _do(self, operation: BulkOperation, job_id: JobId) -> Result:
        rt, tenant_id = self._rt, operation.tenant_id
        try:
            if operation.action is BulkAction.CANCEL:
                _, changed = await cancel(rt, job_id, tenant_id=tenant_id)
            elif operation.action is BulkAction.PURGE:
                _, changed = await purge(rt, job_id, tenant_id=tenant_id, by=None)
            elif await self._is_retried(operation, job_id):
                return "skipped"
            else:
                _, changed = await retry(rt, job_id, tenant_id=tenant_id, key_id=operation.key_id)
        except (Conflict, NotFound):
            return "skipped"
        except TooMany:  # it goes on when there is room
            raise
        except RequestError as error:
            log.warning("bulk_job_failed", job_id=str(job_id), code=error.code)
            return "failed"
        return "changed" if changed else "skipped"
