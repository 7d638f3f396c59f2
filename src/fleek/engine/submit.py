"""Accept a job: check it and store it."""

from dataclasses import replace
from datetime import datetime

import structlog
from uuid_utils.compat import uuid7

from fleek import tracing
from fleek.domain.budgets import day_of
from fleek.domain.charges import MAX_COST, over_max_cost, priced_by, priced_with
from fleek.domain.errors import BudgetExceeded, Conflict, FieldError, InvalidInput
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import MAX_SCHEDULE, Job, JobId, JobRequest, ModelName, Status
from fleek.domain.routing import Route, RouteOrder, Routing
from fleek.domain.transitions import wait_for_inputs
from fleek.engine.apply import insert
from fleek.engine.reuse import content_of, reuse_since
from fleek.engine.routes import find_route
from fleek.engine.runtime import Runtime
from fleek.engine.webhooks import check_url
from fleek.store import inputs, jobs
from fleek.store.jobs import Accepted

log = structlog.get_logger(__name__)


async def submit(rt: Runtime, request: JobRequest) -> Job:
    """Accept a job; see `submit_once`. A repetition makes another job."""
    return (await submit_once(rt, request, None)).job


async def submit_once(
    rt: Runtime, request: JobRequest, identity: RequestIdentity | None
) -> Accepted:
    """Accept a job; when this returns, it survives whatever happens to the process.

    A request that repeats an accepted one by its `identity` has the same outcome, whatever would
    become of it now.

    Raises:
        IdempotencyKeyReused: Its key is that of another request.
        InvalidInput: Its provider, model, parameters or time are not acceptable.
        TooManyJobs: The tenant has as many unfinished jobs as it may have.
        BudgetExceeded: A budget has no room for it.
        DatabaseUnavailable: It is not accepted.
        StorageFull: It is not accepted: there is no space for its row or its files.
    """
    earlier = await _find_earlier(rt, identity)
    if earlier is not None:
        return earlier
    job = await checked(rt, request)
    return await _insert(rt, job, identity=identity, since=reuse_since(job, request))


async def retry(
    rt: Runtime,
    job_id: JobId,
    *,
    tenant_id: str,
    key_id: str | None = None,
    again: bool = False,
) -> tuple[Job, bool]:
    """Accept a retry of a job; see `retry_once`. Returns the retry, and False if it existed."""
    accepted = await retry_once(rt, job_id, None, tenant_id=tenant_id, key_id=key_id, again=again)
    return accepted.job, accepted.created


async def retry_once(
    rt: Runtime,
    job_id: JobId,
    identity: RequestIdentity | None,
    *,
    tenant_id: str,
    key_id: str | None = None,
    again: bool = False,
) -> Accepted:
    """Accept a new job with the same request as one that failed or was cancelled.

    A retry of the same job is one job: while there is one that has not ended, or has completed and
    still has its files, it is the outcome, not created. `again` accepts another in any case.
    `identity`: see `submit_once`.

    Raises:
        IdempotencyKeyReused: The key of the request is that of another one.
        NotFound: There is no such job.
        Conflict: It has not ended, or it has completed.
        InvalidInput: The request is not acceptable any more.
        TooManyJobs: The tenant has as many unfinished jobs as it may have.
        BudgetExceeded: A budget has no room for it.
        DatabaseUnavailable: It is not known whether one was accepted.
        StorageFull: It is not accepted.
    """
    earlier = await _find_earlier(rt, identity)
    if earlier is not None:
        return earlier
    old = await _retryable(rt, job_id, tenant_id=tenant_id)
    keyed = identity is not None and identity.key is not None  # the key has to be written
    existing = None if again or keyed else await jobs.retry_of(rt.db, old.id)
    if existing is not None:
        return Accepted(existing, created=False)
    new = replace(
        await checked(rt, _repeated(old, key_id)),
        retry_of=old.id,
        batch_id=old.batch_id,
        batch_index=old.batch_index,
    )
    return await _insert(rt, new, again=again, identity=identity)


async def _retryable(rt: Runtime, job_id: JobId, *, tenant_id: str) -> Job:
    old = (await jobs.get(rt.db, job_id, tenant_id=tenant_id)).job
    if old.status not in {Status.FAILED, Status.CANCELLED}:
        raise Conflict("only a failed or cancelled job can be retried", code="not_retryable")
    return old


def _repeated(old: Job, key_id: str | None) -> JobRequest:
    """Return the request of a job, as a caller with this key repeats it."""
    asked = old.routing and old.routing.request
    return JobRequest(
        prompt=old.prompt,
        model=None if asked else old.model,
        models=asked.models if asked else (),
        parameters=asked.parameters if asked else old.input,
        provider=asked.provider if asked else old.provider,
        route=asked.order if asked else RouteOrder.LISTED,
        strict_parameters=asked.strict if asked else True,
        metadata=old.metadata,
        tags=old.tags,
        on_input_cancel=old.on_input_cancel,
        priority=old.priority,
        deadline=old.deadline_after or old.deadline - old.created_at,
        max_attempts=old.max_attempts,
        max_cost=old.max_cost,
        webhook=old.webhook,
        tenant_id=old.tenant_id,
        key_id=key_id,
    )


async def _find_earlier(rt: Runtime, identity: RequestIdentity | None) -> Accepted | None:
    if identity is None:
        return None
    earlier = await jobs.find_earlier(rt.db, identity, now=rt.now())
    if earlier is not None:
        _log_replay(earlier, identity)
    return earlier


async def _insert(
    rt: Runtime,
    job: Job,
    *,
    again: bool = False,
    identity: RequestIdentity | None,
    since: datetime | None = None,
) -> Accepted:
    accepted = await insert(rt, job, again=again, identity=identity, reuse_since=since)
    if accepted.replayed and identity is not None:
        _log_replay(accepted, identity)
    else:
        rt.wakeups.notify("admit")
    return accepted


def _log_replay(accepted: Accepted, identity: RequestIdentity) -> None:
    by = "content" if identity.key is None else "key"
    log.info("request_replayed", job_id=str(accepted.job.id), by=by)


async def checked(rt: Runtime, request: JobRequest) -> Job:
    """Return the job that the request makes; it is not stored yet.

    Raises:
        InvalidInput: Its provider, model, parameters or time are not acceptable.
        BudgetExceeded: It would cost more than its `max_cost`.
        StorageFull: There is no space for its files.
    """
    route, routing = await find_route(rt, request)
    if request.webhook is not None:
        check_url(rt, request.webhook.url, pointer="/webhook_url")
    rt.capacity.check()
    job = _job(rt, request, route, routing, await content_of(rt, request, route))
    _check_max_cost(rt, job)
    statuses = await inputs.sources(rt.db, job)
    open_ones = [source for source, status in statuses.items() if status is not Status.COMPLETED]
    return wait_for_inputs(job, open_ones) if open_ones else job


def _check_max_cost(rt: Runtime, job: Job) -> None:
    """Raise if no route of a new job is certain to cost no more than it may."""
    reason = over_max_cost(job, job.estimate)
    if reason is None:
        return
    asked = priced_by(job)
    for route in () if job.routing is None else job.routing.routes:
        estimate = rt.prices.estimate(
            route.provider, ModelName(route.model), {**asked, **route.input}
        )
        if over_max_cost(job, estimate) is None:
            return
    raise BudgetExceeded(reason, code=MAX_COST)


def _job(
    rt: Runtime, request: JobRequest, route: Route, routing: Routing | None, content: bytes | None
) -> Job:
    """Return the job, which reserves what its first attempt will cost.

    It is whole at once: each copy of a job with another field would cost 2 % of its submission.
    """
    now = rt.now()
    run_at = _run_at(request, now)
    settings, model = rt.settings, ModelName(route.model)
    deadline_after = request.deadline or settings.job_deadline
    return Job(
        id=JobId(uuid7()),
        tenant_id=request.tenant_id,
        key_id=request.key_id,
        provider=route.provider,
        model=model,
        prompt=request.prompt,
        input=route.input,
        inputs=route.inputs,
        routing=routing,
        metadata=request.metadata,
        tags=request.tags,
        max_cost=request.max_cost,
        on_input_cancel=request.on_input_cancel,
        priority=request.priority,
        max_attempts=request.max_attempts or settings.max_retry_attempts + 1,
        run_at=run_at,
        deadline=run_at + deadline_after,
        deadline_after=deadline_after,
        webhook=request.webhook,
        estimate=rt.prices.estimate(route.provider, model, priced_with(routing, route.input)),
        charged=1,
        charged_on=day_of(now),
        content=content,
        traceparent=tracing.traceparent(),
        created_at=now,
        updated_at=now,
    )


def _run_at(request: JobRequest, now: datetime) -> datetime:
    """Return when a job may start at the earliest.

    Raises:
        InvalidInput: It would start too late.
    """
    run_at = now if request.run_at is None else max(request.run_at, now)
    if run_at > now + MAX_SCHEDULE:
        field = FieldError(pointer="/run_at", code="too_late", detail="is over 365 days ahead")
        raise InvalidInput("the job would start too late", errors=[field])
    return run_at
