"""Submission: a job is checked, then stored."""

import asyncio
import math
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from uuid_utils.compat import uuid7

from backing_services import both_databases
from fakes import Clock, FakeProvider, a_request
from fleek.domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    ProviderRejected,
    ProviderUnavailable,
    StorageError,
    StorageFull,
)
from fleek.domain.job import Job, JobId, ModelName, Status
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.purge import purge
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import retry, submit
from fleek.providers.base import Schema
from fleek.store import events, jobs
from fleek.store.counters import count_jobs
from fleek.store.tables import JobRow

SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "width": {"type": "integer", "minimum": 16, "maximum": 4096},
        "output_format": {"enum": ["png", "webp"]},
        "strength": {"type": "number"},
    },
}


async def test_an_accepted_job_is_in_the_database(rt: Runtime, clock: Clock) -> None:
    """The row is the truth."""
    job = await submit(rt, a_request("A fox", parameters={"width": 64}, metadata={"order": 7}))

    stored = await jobs.get_any_tenant(rt.db, job.id)

    assert stored == job
    assert (stored.status, stored.priority, stored.max_attempts) == (Status.PENDING, 5, 4)
    assert stored.deadline == clock() + timedelta(days=1)
    assert [event.type for event in await events.of_job(rt.db, job.id)] == ["submitted"]


async def test_values_of_the_request_override_the_settings(rt: Runtime, clock: Clock) -> None:
    """Settings only fill what a request leaves open."""
    run_at = clock() + timedelta(hours=1)
    request = a_request(
        model=ModelName("a/b"),
        provider="fake",
        priority=9,
        run_at=run_at,
        deadline=timedelta(minutes=5),
        max_attempts=1,
    )

    job = await submit(rt, request)

    assert (job.model, job.provider, job.priority, job.max_attempts) == ("a/b", "fake", 9, 1)
    assert (job.run_at, job.deadline) == (run_at, run_at + timedelta(minutes=5))


@pytest.mark.parametrize(
    ("parameters", "pointer", "code"),
    [
        ({"width": 15}, "/parameters/width", "too_small"),
        ({"width": 5000}, "/parameters/width", "too_large"),
        ({"width": "64"}, "/parameters/width", "wrong_type"),
        ({"width": True}, "/parameters/width", "wrong_type"),
        ({"width": 64.0}, "/parameters/width", "wrong_type"),
        ({"output_format": "exe"}, "/parameters/output_format", "not_a_choice"),
        ({"a/b~c": 1}, "/parameters/a~1b~0c", "unknown_parameter"),
    ],
)
async def test_parameters_forbidden_by_the_model_are_refused(
    rt: Runtime, provider: FakeProvider, parameters: dict[str, object], pointer: str, code: str
) -> None:
    """They are refused before anything is paid for, with the name of the field."""
    provider.parameters = SCHEMA

    with pytest.raises(InvalidInput) as refused:
        await submit(rt, a_request(parameters=parameters))

    assert [(one.pointer, one.code) for one in refused.value.errors] == [(pointer, code)]
    assert (await count_jobs(rt.db, now=rt.now())).total == 0


async def test_every_wrong_parameter_is_named(rt: Runtime, provider: FakeProvider) -> None:
    """One request reveals all errors, missing parameters included."""
    provider.parameters = {**SCHEMA, "required": ["strength"]}

    with pytest.raises(InvalidInput) as refused:
        await submit(rt, a_request(parameters={"width": 1, "x": 1, "y": 2}))

    pointers = {one.pointer for one in refused.value.errors}
    assert pointers == {f"/parameters/{name}" for name in ("width", "x", "y", "strength")}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"width": True}},
        {"properties": True},
        {"properties": None, "nullable": True},
        {"type": 7, "properties": []},
        {"$ref": "#/$defs/a", "$defs": "a"},
        {"$schema": "http://127.0.0.1:9/none.json", "properties": {"width": {"type": "number"}}},
        {"properties": {"width": {"pattern": "("}}},
        {"properties": {"width": {"minimum": math.nan}}},
    ],
    ids=range(8),
)
async def test_a_schema_of_any_shape_refuses_or_allows(
    rt: Runtime, provider: FakeProvider, schema: dict[str, object]
) -> None:
    """A provider's document is untrusted, and never causes an internal error."""
    provider.parameters = schema

    job = await submit(rt, a_request(parameters={"width": 1.0}))

    assert job.status is Status.PENDING


async def test_a_refusal_names_few_of_many_choices(rt: Runtime, provider: FakeProvider) -> None:
    """An enumeration may be as large as a schema."""
    provider.parameters = {"properties": {"voice": {"enum": [str(n) for n in range(4000)]}}}

    with pytest.raises(InvalidInput) as refused:
        await submit(rt, a_request(parameters={"voice": "mine"}))

    assert len(refused.value.errors[0].detail) <= 500


async def test_allowed_parameters_are_accepted(rt: Runtime, provider: FakeProvider) -> None:
    """An integer is a number, too."""
    provider.parameters = SCHEMA

    job = await submit(rt, a_request(parameters={"width": 64, "strength": 1.0}))

    assert job.input == {"width": 64, "strength": 1.0}


async def test_the_number_of_cached_schemas_is_limited(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A provider may return a new document each time."""
    for _ in range(300):
        provider.parameters = {**SCHEMA}
        await rt.validators.check(provider.parameters, {"width": 64})

    assert len(rt.validators._compiled_by_id) <= 256


async def test_an_unknown_model_is_refused(rt: Runtime) -> None:
    """The provider has a list of its models."""
    with pytest.raises(InvalidInput) as refused:
        await submit(rt, a_request(model=ModelName("no/model")))

    assert refused.value.code == "unknown_model"


async def test_an_unknown_provider_is_refused_with_the_choices(rt: Runtime) -> None:
    """It may be a typing error."""
    with pytest.raises(InvalidInput) as refused:
        await submit(rt, a_request(provider="nobody"))

    assert "fake, placeholder" in refused.value.errors[0].detail


async def test_an_unreachable_schema_does_not_block_a_job(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider checks the parameters at the start."""

    async def away(_: ModelName) -> Schema | None:
        raise ProviderUnavailable("no answer")

    monkeypatch.setattr(provider, "schema", away)

    job = await submit(rt, a_request(parameters={"anything": 1}))

    assert job.status is Status.PENDING


async def test_a_job_too_far_ahead_is_refused(rt: Runtime, clock: Clock) -> None:
    """A time more than a year ahead is a mistake."""
    with pytest.raises(InvalidInput):
        await submit(rt, a_request(run_at=clock() + timedelta(days=366)))


async def test_a_time_in_the_past_means_now(rt: Runtime, clock: Clock) -> None:
    """A caller's clock may be behind."""
    job = await submit(rt, a_request(run_at=clock() - timedelta(days=1)))

    assert job.run_at == clock()


async def test_a_full_disk_refuses_jobs_until_it_has_space(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose file cannot be stored is better refused."""
    failures: list[Exception] = [StorageFull("no room"), StorageError("odd")]

    async def check() -> None:
        if failures:
            raise failures.pop(0)

    monkeypatch.setattr(rt.storage, "check", check)
    await rt.capacity.look()
    with pytest.raises(StorageFull):
        await submit(rt, a_request())

    await rt.capacity.look()  # another error says nothing about the disk
    await rt.capacity.look()

    assert (await submit(rt, a_request())).status is Status.PENDING


async def test_a_failed_job_can_be_retried(rt: Runtime, provider: FakeProvider) -> None:
    """The retry is a new job with the same request."""
    provider.starts = [ProviderRejected("no")]
    old = await submit(rt, a_request("A fox", parameters={"width": 3}, priority=7))
    await start(rt, old.id)

    new, created = await retry(rt, old.id, tenant_id="default")

    assert created
    assert new.id != old.id
    assert (new.prompt, new.input, new.priority) == ("A fox", {"width": 3}, 7)
    assert new.deadline_after == old.deadline_after


async def test_a_retry_has_as_much_time_as_a_scheduled_job_had_from_its_start(rt: Runtime) -> None:
    """The days until `run_at` do not count towards the deadline."""
    limit = timedelta(seconds=600)
    old = await submit(rt, a_request(run_at=rt.now() + timedelta(days=10), deadline=limit))
    await cancel(rt, old.id, tenant_id="default")

    new, _ = await retry(rt, old.id, tenant_id="default")

    assert old.deadline == old.run_at + limit
    assert new.deadline == new.run_at + limit == rt.now() + limit


async def test_a_job_of_an_earlier_release_is_retried_with_its_time_from_acceptance(
    rt: Runtime,
) -> None:
    """That release stores only the time of the deadline, and may run beside this one."""
    old = await submit(rt, a_request(deadline=timedelta(seconds=600)))
    await cancel(rt, old.id, tenant_id="default")
    async with rt.db.write() as tx:
        await tx.execute(update(JobRow).values(deadline_after_seconds=None))

    new, _ = await retry(rt, old.id, tenant_id="default")

    assert new.deadline == new.run_at + timedelta(seconds=600)


async def test_a_cancelled_job_can_be_retried(rt: Runtime) -> None:
    """The retry is a new job, too."""
    old = await submit(rt, a_request())
    await cancel(rt, old.id, tenant_id="default")

    assert (await retry(rt, old.id, tenant_id="default"))[0].status is Status.PENDING


@both_databases
async def test_concurrent_retries_of_a_job_create_one_job(rt: Runtime) -> None:
    """Otherwise each of twenty callers would pay for a job of its own."""
    old = await a_cancelled_job(rt)
    before = (await count_jobs(rt.db, now=rt.now())).queue_depth

    answers = await asyncio.gather(*(retry(rt, old.id, tenant_id="default") for _ in range(20)))

    assert len({job.id for job, _ in answers}) == 1
    assert sorted(created for _, created in answers) == [False] * 19 + [True]
    assert (await count_jobs(rt.db, now=rt.now())).queue_depth == before + 1


@both_databases
async def test_another_retry_is_created_on_request(rt: Runtime) -> None:
    """A second result may be wanted; a plain retry then returns the latest one."""
    old = await a_cancelled_job(rt)
    first, _ = await retry(rt, old.id, tenant_id="default")

    second, created = await retry(rt, old.id, tenant_id="default", again=True)
    third, third_created = await retry(rt, old.id, tenant_id="default")

    assert created
    assert second.id != first.id
    assert (third.id, third_created) == (second.id, False)


@pytest.mark.parametrize("ends", ["completed", "purged", "cancelled"])
async def test_a_failed_retry_is_followed_by_another(
    rt: Runtime, provider: FakeProvider, ends: str
) -> None:
    """A completed retry is returned as long as its files exist."""
    provider.at_once = True
    old = await a_cancelled_job(rt)
    first, _ = await retry(rt, old.id, tenant_id="default")
    if ends == "cancelled":
        await cancel(rt, first.id, tenant_id="default")
    else:
        await start(rt, first.id)
        await collect(rt, first.id)
    if ends == "purged":
        await purge(rt, first.id, tenant_id="default")

    second, created = await retry(rt, old.id, tenant_id="default")

    assert created is (ends != "completed")
    assert (second.id == first.id) is (ends == "completed")


async def a_cancelled_job(rt: Runtime) -> Job:
    """Return a job that may be retried."""
    job = await submit(rt, a_request())
    return (await cancel(rt, job.id, tenant_id="default"))[0]


async def test_a_running_job_cannot_be_retried(rt: Runtime) -> None:
    """It would be paid for twice."""
    job = await submit(rt, a_request())

    with pytest.raises(Conflict):
        await retry(rt, job.id, tenant_id="default")


async def test_a_foreign_job_cannot_be_retried(rt: Runtime) -> None:
    """The response does not reveal the ids of other tenants."""
    job = await submit(rt, a_request())

    for job_id, tenant in ((job.id, "other"), (JobId(uuid7()), "default")):
        with pytest.raises(NotFound):
            await retry(rt, job_id, tenant_id=tenant)
        with pytest.raises(NotFound):
            await cancel(rt, job_id, tenant_id=tenant)


async def test_the_default_model_is_that_of_the_default_provider(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Another provider may not have it, and has a default of its own."""
    rt = replace(rt, settings=rt.settings.model_copy(update={"default_model": "one/model"}))

    first = await submit(rt, a_request())
    second = await submit(rt, a_request(provider="fake"))

    assert (first.model, second.model) == ("one/model", provider.default_model)
