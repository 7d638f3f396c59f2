"""Accept a job: check it and store it."""

from dataclasses import replace

from uuid_utils.compat import uuid7

from fleek.domain.errors import Conflict, FieldError, InvalidInput, NotFound, ProviderError
from fleek.domain.job import MAX_SCHEDULE, Job, JobId, JobRequest, ModelName, Status
from fleek.engine.apply import insert
from fleek.engine.runtime import Runtime
from fleek.engine.webhooks import check_url
from fleek.providers.base import Provider
from fleek.store import jobs


async def submit(rt: Runtime, request: JobRequest) -> Job:
    """Accept a job; when this returns, it survives whatever happens to the process.

    Raises:
        InvalidInput: Its provider, model, parameters or time are not acceptable.
        DatabaseUnavailable: It is not accepted.
        StorageFull: It is not accepted: there is no space for its row or its files.
    """
    job = await insert(rt, await _checked(rt, request))
    rt.wakeups.notify("admit")
    return job


async def retry(
    rt: Runtime, job_id: JobId, *, tenant_id: str, again: bool = False
) -> tuple[Job, bool]:
    """Accept a new job with the same request as one that failed or was cancelled.

    A retry of the same job is one job: while there is one that has not ended, or has completed and
    still has its files, it is returned with False. `again` accepts another in any case.

    Raises:
        NotFound: There is no such job.
        Conflict: It has not ended, or it has completed.
        InvalidInput: The request is not acceptable any more.
        DatabaseUnavailable: It is not known whether one was accepted.
        StorageFull: It is not accepted.
    """
    old = (await jobs.get(rt.db, job_id, tenant_id=tenant_id)).job
    if old.status not in {Status.FAILED, Status.CANCELLED}:
        raise Conflict("only a failed or cancelled job can be retried", code="not_retryable")
    earlier = None if again else await jobs.retry_of(rt.db, old.id)
    if earlier is not None:
        return earlier, False
    repeated = JobRequest(
        prompt=old.prompt,
        model=old.model,
        parameters=old.input,
        provider=old.provider,
        metadata=old.metadata,
        tags=old.tags,
        priority=old.priority,
        deadline=old.deadline_after or old.deadline - old.created_at,
        max_attempts=old.max_attempts,
        webhook=old.webhook,
        tenant_id=tenant_id,
    )
    new = replace(await _checked(rt, repeated), retry_of=old.id)
    job = await insert(rt, new, again=again)
    rt.wakeups.notify("admit")
    return job, job.id == new.id


async def _checked(rt: Runtime, request: JobRequest) -> Job:
    """Return the job that the request makes; it is not stored yet."""
    name = request.provider or rt.settings.provider
    provider = provider_of(rt, name)
    chosen = rt.settings.default_model if name == rt.settings.provider else None
    model = request.model or ModelName(chosen or provider.default_model)
    await _check_parameters(rt, provider, model, request)
    if request.webhook is not None:
        check_url(rt, request.webhook.url, pointer="/webhook_url")
    rt.capacity.check()
    return _job(rt, request, provider=name, model=model)


def provider_of(rt: Runtime, name: str) -> Provider:
    """Return a configured provider.

    Raises:
        InvalidInput: There is no such provider.
    """
    provider = rt.providers.get(name)
    if provider is None:
        detail = f"is not configured here; choose one of: {', '.join(sorted(rt.providers))}"
        raise InvalidInput(
            "there is no such provider",
            code="unknown_provider",
            errors=[FieldError(pointer="/provider", code="unknown_provider", detail=detail)],
        )
    return provider


async def _check_parameters(
    rt: Runtime, provider: Provider, model: ModelName, request: JobRequest
) -> None:
    try:
        schema = await provider.schema(model)
    except NotFound as error:
        field = FieldError(pointer="/model_name", code="unknown_model", detail=str(error))
        raise InvalidInput(
            "there is no such model", code="unknown_model", errors=[field]
        ) from error
    except ProviderError:
        return  # unreachable: accepted now, checked by the provider at start
    if schema is not None:
        await rt.validators.check(schema, request.parameters)


def _job(rt: Runtime, request: JobRequest, *, provider: str, model: ModelName) -> Job:
    now = rt.now()
    run_at = now if request.run_at is None else max(request.run_at, now)
    if run_at > now + MAX_SCHEDULE:
        field = FieldError(pointer="/run_at", code="too_late", detail="is over 365 days ahead")
        raise InvalidInput("the job would start too late", errors=[field])
    settings = rt.settings
    deadline_after = request.deadline or settings.job_deadline
    return Job(
        id=JobId(uuid7()),
        tenant_id=request.tenant_id,
        provider=provider,
        model=model,
        prompt=request.prompt,
        input=request.parameters,
        metadata=request.metadata,
        tags=request.tags,
        priority=request.priority,
        max_attempts=request.max_attempts or settings.max_retry_attempts + 1,
        run_at=run_at,
        deadline=run_at + deadline_after,
        deadline_after=deadline_after,
        webhook=request.webhook,
        created_at=now,
        updated_at=now,
    )
