"""No loop and no list scans old rows: every statement finds its rows by an index.

The statements are captured while the functions run on 100,000 jobs, and explained with their
values.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import event

from backing_services import MIGRATED, PATIENCE_SECONDS, SLOW_LOCKS, Services, apart
from bulk_data import ROWS, insert_jobs
from fleek.domain.attempt import Attempt
from fleek.domain.errors import Conflict
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.inputs import media_inputs
from fleek.domain.job import (
    AttemptId,
    BatchId,
    Job,
    JobFilter,
    JobId,
    Kind,
    ModelName,
    PredictionId,
    Status,
    WorkerId,
)
from fleek.domain.media import Part
from fleek.domain.transitions import cancel, edit, mark_erased, purge
from fleek.domain.uploads import UploadId
from fleek.domain.webhooks import DeliveryId, DeliveryState, EndpointId
from fleek.store import (
    attempts,
    batches,
    clock,
    deliveries,
    delivery_log,
    event_stream,
    events,
    idempotency,
    inputs,
    jobs,
    limits,
    listing,
    outlook,
    purges,
    queue,
    reuse,
    uploads,
    workers,
)
from fleek.store.clock import Leap
from fleek.store.counters import count_jobs
from fleek.store.database import Database, open_database
from fleek.store.deliveries import Claim, Outcome
from fleek.store.delivery_log import DeliveryFilter
from fleek.store.event_stream import Cursor
from fleek.store.statistics import medians, statistics
from fleek.store.updates import StartLimit, Update, apply
from samples import a_job, an_attempt, an_upload, binds, claims, completes

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOW: Final = START + timedelta(seconds=ROWS)
SOON: Final = START + timedelta(seconds=30)
WORKER: Final = WorkerId(UUID("b0000000-0000-0000-0000-000000000004"))
MANY: Final = [JobId(UUID(int=i)) for i in range(20_000, 20_100)]
PLACE: Final = (START, JobId(UUID(int=8)))
LANE: Final = UUID("b0000000-0000-0000-0000-000000000008")
BIG: Final = frozenset(
    {
        *("jobs", "attempts", "events", "job_tags", "media", "idempotency_keys"),
        *("unkeyed_requests", "deliveries", "batches", "uploads", "job_inputs"),
    }
)

UNASKED: Final = {
    "ix_media_attempt",  # SQLite shows how it checks a removed reference
    # of a few rows, which PostgreSQL may scan or not
    *("ix_bulk_open", "pk_budgets", "pk_clock", "pk_endpoints", "pk_tenants"),
}

REFERENCES: Final = {
    ("sqlite", "accept"): {
        *(
            "ix_job_tags_job",
            "pk_events",
            "pk_job_inputs",
            "pk_job_logs",
            "pk_media",
            "uq_attempts_job_id_n",
        )
    },
    ("sqlite", "remove"): {"pk_delivery_attempts", "pk_job_logs"},
    ("sqlite", "old deliveries"): {"pk_delivery_attempts"},
    ("sqlite", "accept below a limit"): {
        *(
            "ix_job_tags_job",
            "pk_events",
            "pk_job_inputs",
            "pk_job_logs",
            "pk_media",
            "uq_attempts_job_id_n",
        )
    },
    ("sqlite", "inputs of a new job"): {
        *("ix_job_tags_job", "pk_events", "pk_job_inputs", "pk_job_logs", "uq_attempts_job_id_n"),
    },
}
"""Where SQLite looks for rows that might refer to a row that is new or removed."""

SAME_ROWS: Final = {
    "from the future": {"ix_jobs_due_by_tenant": "ix_jobs_due"},
    "batches": {"pk_batches": "ix_batches_list", "ix_jobs_list_by_batch": "ix_jobs_members"},
    "batches behind": {"ix_jobs_list_by_batch": "ix_jobs_members"},
    "batch": {"ix_jobs_list_by_batch": "ix_jobs_members"},
    "medians": {"ix_jobs_ended_by_tenant": "ix_jobs_ended"},
}
"""Calls for which another index has the same rows, and a planner may take either."""

KEYS: Final = {  # SQLite numbers the indexes of a table's own constraints
    "sqlite_autoindex_jobs_1": "pk_jobs",
    "sqlite_autoindex_budgets_1": "pk_budgets",
    "sqlite_autoindex_job_inputs_1": "pk_job_inputs",
    "sqlite_autoindex_uploads_1": "pk_uploads",
    "sqlite_autoindex_uploads_2": "uq_uploads_tenant_id_kept_sha256",
    "sqlite_autoindex_attempts_1": "pk_attempts",
    "sqlite_autoindex_attempts_2": "uq_attempts_job_id_n",
    "sqlite_autoindex_attempts_3": "uq_attempts_provider_prediction_id",
    "sqlite_autoindex_events_1": "pk_events",
    "sqlite_autoindex_job_logs_1": "pk_job_logs",
    "sqlite_autoindex_media_1": "pk_media",
    "sqlite_autoindex_job_tags_1": "pk_job_tags",
    "sqlite_autoindex_batches_1": "pk_batches",
    "sqlite_autoindex_delivery_attempts_1": "pk_delivery_attempts",
    "sqlite_autoindex_deliveries_1": "pk_deliveries",
    "sqlite_autoindex_endpoints_1": "pk_endpoints",
    "sqlite_autoindex_tenants_1": "pk_tenants",
    "sqlite_autoindex_idempotency_keys_1": "pk_idempotency_keys",
    "sqlite_autoindex_unkeyed_requests_1": "pk_unkeyed_requests",
}


def request(key: str | None = None, *, window: timedelta = timedelta(0)) -> RequestIdentity:
    """Return the identity of a request that was accepted before."""
    return RequestIdentity("default", b"digest67", key, window)


def number(i: int) -> JobId:
    """Return the id of the i-th job."""
    return JobId(UUID(int=i))


def try_of(i: int) -> AttemptId:
    """Return the id of its attempt."""
    return AttemptId(UUID(int=(0xA << 124) + i))


def stopped(job: Job, _: Attempt | None) -> Update:
    """Decide to cancel."""
    return Update(change=cancel(job, now=NOW), cancel_owed=True)


def decide_to_purge(job: Job, _: Attempt | None) -> Update:
    """Decide to purge."""
    return Update(change=purge(job, list(Part), now=NOW))


def relabels(job: Job, _: Attempt | None) -> Update:
    """Decide to change what belongs to the caller."""
    return Update(change=edit(job, {"tags": ("storm",), "favourite": True}, now=NOW))


def needing(source: JobId, upload: UUID) -> Job:
    """Return a new job with an output and an upload as inputs."""
    found = media_inputs({"a": f"job:{source}", "b": f"upload:{upload}"}, None)
    return a_job(inputs=found)


def readies(_job: Job, _: Attempt | None) -> Update:
    """Decide that the job waits for no other job."""
    return Update(inputs_ready=True)


def ends_with_inputs(job: Job, _: Attempt | None) -> Update:
    """Decide to cancel a job with inputs."""
    ended = cancel(replace(job, inputs=needing(number(8), number(8)).inputs), now=NOW)
    return Update(change=ended)


def erases(job: Job, _: Attempt | None) -> Update:
    """Decide that all of it is gone."""
    return Update(change=mark_erased(job, now=NOW), drops_media=True)


async def removes(db: Database) -> None:
    """Purge a job, and remove it with all its rows."""
    gone = [number(20_008)]
    await apply(db, gone[0], decide_to_purge)
    await apply(db, gone[0], erases)
    assert await purges.remove(db, [*gone, *MANY]) == 1


async def looks_for_equal_job(db: Database) -> None:
    """Look for a job whose files a new one may have."""
    async with db.write() as tx:
        assert await reuse.find(tx, [(a_job(content=b"digest"), START)]) == {}


async def leaps(db: Database) -> None:
    """Record a leap of the time, in the way of each database."""
    hour = timedelta(hours=1)
    if db.kind == "postgresql":
        await clock.note_step(db, NOW, by=hour, since=NOW - hour)
    else:
        await clock.move_anchor(db, "boot", by=hour, leaps=True, steady=2.0)


def page(**options: Any) -> Callable[[Database], Awaitable[Any]]:
    """Return the call that lists jobs."""
    return lambda db: listing.page(db, **{"tenant_id": "default", "limit": 20, **options})


def filtered(**conditions: Any) -> Callable[[Database], Awaitable[Any]]:
    """Return the call that lists jobs with a filter."""
    return page(wanted=JobFilter(**conditions))


def log_page(*, after: DeliveryId | None = None, **wanted: Any) -> Callable[[Database], Any]:
    """Return the call that lists a page of deliveries."""
    return lambda db: delivery_log.page(
        db, DeliveryFilter(**wanted), tenant_id="default", limit=20, after=after
    )


async def delivers(db: Database) -> None:
    """Record an accepted delivery."""
    delivery = await delivery_log.get(db, DeliveryId(number(1608)), tenant_id="default")
    outcome = Outcome(
        delivery=delivery,
        at=NOW,
        seconds=0.1,
        state=DeliveryState.DELIVERED,
        next_at=None,
        status=204,
        reason="delivered",
        healthy=True,
    )
    assert await deliveries.report(db, outcome) is None


async def replays(db: Database) -> None:
    """Request a replay for a missing endpoint."""
    with suppress(Conflict):
        await delivery_log.replay(db, DeliveryId(number(9)), tenant_id="default", now=NOW)


CALLS: Final[Mapping[str, tuple[Callable[[Database], Awaitable[Any]], str]]] = {
    "due": (lambda db: queue.due(db, providers=["fake"], now=NOW, limit=5000), "ix_jobs_due"),
    "due of many tenants": (
        lambda db: queue.due(
            db, providers=["fake"], now=NOW, limit=5, dispatched=[number(8), number(9)]
        ),
        "ix_jobs_due ix_jobs_due_by_tenant pk_jobs",
    ),
    "due but": (
        lambda db: queue.due(
            db,
            providers=["fake"],
            now=NOW,
            limit=5000,
            without=[("fake", ModelName("the/broken"))],
        ),
        "ix_jobs_due",
    ),
    "next run": (lambda db: queue.next_run(db, providers=["fake"], now=NOW), "ix_jobs_due"),
    "uncollected": (
        lambda db: queue.uncollected(db, now=NOW, limit=99, postponed=False),
        "ix_jobs_uncollected",
    ),
    "collected again": (
        lambda db: queue.uncollected(db, now=NOW, limit=99, postponed=True),
        "ix_jobs_uncollected",
    ),
    "postponed": (queue.postponed, "ix_jobs_uncollected"),
    "held": (lambda db: jobs.held_by(db, WORKER), "ix_jobs_held"),
    "outlook": (
        outlook.waiting_kinds,
        """ix_jobs_due ix_jobs_uncollected ix_jobs_held ix_attempts_bound ix_jobs_routed
        ix_job_inputs_waiting ix_deliveries_due ix_jobs_purging ix_uploads_being_removed""",
    ),
    "held by each": (workers.held_jobs, "ix_jobs_held"),
    "overdue": (lambda db: jobs.overdue(db, now=START, limit=99), "ix_jobs_deadline"),
    "overdue after a leap": (
        lambda db: jobs.overdue(
            db, now=NOW, leaps=[Leap(START, timedelta(hours=1))] * 2, after=PLACE, limit=99
        ),
        "ix_jobs_deadline",
    ),
    "from the future": (
        lambda db: queue.from_future(db, now=NOW, limit=99),
        "ix_jobs_due ix_jobs_uncollected",
    ),
    "tally": (lambda db: count_jobs(db, now=NOW), "ix_jobs_due"),
    "first page": (page(), "ix_jobs_list pk_media"),
    "page by key": (page(after=number(5000)), "ix_jobs_list pk_media"),
    "page by number": (page(offset=40), "ix_jobs_list pk_media"),
    "page of a status": (filtered(statuses={Status.COMPLETED}), "ix_jobs_list_by_status pk_media"),
    "page of the rare": (filtered(statuses={Status.CANCELLED}), "ix_jobs_list_by_status"),
    "page of two statuses": (
        filtered(statuses={Status.CANCELLED, Status.FAILED}),
        "ix_jobs_list_by_status",
    ),
    "page of a model": (
        filtered(model=ModelName("fake/rare")),
        "ix_jobs_list_by_model pk_media",
    ),
    "page of a provider": (filtered(provider="fake"), "ix_jobs_list_by_provider pk_media"),
    "page of a kind": (filtered(kind=Kind.AUDIO), "ix_jobs_list_by_kind pk_media"),
    "page of a batch": (
        filtered(batch_id=BatchId(number(88))),
        "ix_jobs_list_by_batch pk_media",
    ),
    "batches": (
        lambda db: batches.page(db, tenant_id="default", limit=20),
        "ix_batches_list ix_jobs_members",
    ),
    "batches behind": (
        lambda db: batches.page(db, tenant_id="default", limit=20, after=BatchId(number(8))),
        "ix_batches_list ix_jobs_members",
    ),
    "batch": (
        lambda db: batches.get(db, BatchId(number(88)), tenant_id="default"),
        "pk_batches ix_jobs_members",
    ),
    "members that were retried": (
        lambda db: batches.is_superseded(db, number(88)),
        "ix_jobs_members pk_jobs",
    ),
    "files of a batch": (
        lambda db: batches.outputs(db, BatchId(number(88)), after=2, limit=20),
        "ix_jobs_members pk_media",
    ),
    "last event of a batch": (
        lambda db: batches.last_position(db, BatchId(number(88))),
        "ix_jobs_members pk_events",
    ),
    "batches without jobs": (
        lambda db: batches.remove_empty(db, before=SOON, limit=100),
        "ix_batches_age ix_idempotency_keys_job ix_jobs_members pk_batches",
    ),
    "page of favourites": (filtered(favourite=True), "ix_jobs_favourites pk_media"),
    "page of a tag": (filtered(tag="sea"), "pk_job_tags pk_jobs pk_media"),
    "page of a tag and more": (
        filtered(tag="sea", statuses={Status.FAILED}, model=ModelName("fake/model")),
        "pk_job_tags pk_jobs",
    ),
    "page of what is nowhere": (
        filtered(model=ModelName("fake/rare"), favourite=False),
        "ix_jobs_list_by_model",
    ),
    "page of two statuses of a time": (
        filtered(
            statuses={Status.CANCELLED, Status.FAILED}, created_before=NOW, created_after=START
        ),
        "ix_jobs_created ix_jobs_list_by_status",
    ),
    "oldest page": (
        filtered(created_after=NOW - timedelta(hours=1), oldest_first=True),
        "ix_jobs_created ix_jobs_list pk_media",
    ),
    "count": (
        lambda db: listing.count(db, JobFilter(favourite=False), tenant_id="default"),
        "ix_jobs_list",
    ),
    "days": (
        lambda db: listing.by_day(
            db, JobFilter(created_before=NOW - timedelta(hours=1)), tenant_id="default"
        ),
        "ix_jobs_created ix_jobs_list",
    ),
    "routed": (
        lambda db: queue.routed(db, "fake", now=NOW, after=PLACE, limit=200),
        "ix_jobs_routed",
    ),
    "routed providers": (queue.routed_providers, "ix_jobs_routed"),
    "medians": (
        lambda db: medians(db, since=NOW - timedelta(hours=1)),
        "ix_jobs_ended",
    ),
    "statistics": (
        lambda db: statistics(db, tenant_id="default", since=NOW - timedelta(hours=1)),
        "ix_jobs_ended_by_tenant ix_jobs_list_by_status pk_media",
    ),
    "edit": (lambda db: apply(db, number(308), relabels), "pk_jobs ix_job_tags_job"),
    "page of nobody": (page(tenant_id="nobody"), "ix_jobs_list"),
    "get": (lambda db: jobs.get(db, number(8), tenant_id="default"), "pk_jobs pk_media"),
    "retry": (lambda db: jobs.retry_of(db, number(9)), "ix_jobs_retries"),
    "waiting": (
        lambda db: attempts.waiting(db, after=None, until=NOW, limit=1000),
        "ix_attempts_bound",
    ),
    "more waiting": (
        lambda db: attempts.waiting(db, after=(START, try_of(1)), until=NOW, limit=1000),
        "ix_attempts_bound",
    ),
    "unsettled": (
        lambda db: attempts.unreconciled(db, "fake", limit=200),
        "ix_attempts_unsettled pk_jobs",
    ),
    "owed": (lambda db: attempts.pending_cancels(db, "fake", limit=200), "ix_attempts_owed"),
    "more unsettled": (
        lambda db: attempts.unreconciled(db, "fake", after=(START, try_of(1)), limit=200),
        "ix_attempts_unsettled pk_jobs",
    ),
    "more owed": (
        lambda db: attempts.pending_cancels(db, "fake", after=(START, try_of(1)), limit=200),
        "ix_attempts_owed",
    ),
    "without verdict": (
        lambda db: attempts.without_verdict(db, "fake"),
        "ix_attempts_bound ix_attempts_unsettled",
    ),
    "all without verdict": (
        attempts.count_without_verdict,
        "ix_attempts_bound ix_attempts_unsettled",
    ),
    "more overdue": (
        lambda db: jobs.overdue(db, now=NOW, after=(START, number(1)), limit=99),
        "ix_jobs_deadline",
    ),
    "in flight": (
        lambda db: attempts.in_flight(db, "fake"),
        "ix_attempts_bound ix_attempts_unsettled",
    ),
    "attempts": (lambda db: attempts.of_job(db, number(8)), "uq_attempts_job_id_n"),
    "attempt": (lambda db: attempts.get(db, try_of(8)), "pk_attempts"),
    "bound": (
        lambda db: attempts.bound_ids(db, "fake", [PredictionId(f"p{i}") for i in range(100)]),
        "uq_attempts_provider_prediction_id",
    ),
    "twin": (
        lambda db: attempts.duplicate_in_flight(
            db, an_attempt(a_job(), request_hash="hash104", id=try_of(1)), unknown_since=NOW
        ),
        "ix_attempts_unsettled pk_jobs",
    ),
    "rival": (
        lambda db: attempts.rival_unbound(
            db, an_attempt(a_job(), provider="fake", id=try_of(1)), prompt="x", before=NOW
        ),
        "ix_attempts_unsettled pk_jobs",
    ),
    "purging": (lambda db: purges.purging(db, after=PLACE, limit=99), "ix_jobs_purging"),
    "expired media": (
        lambda db: purges.expired(db, Part.MEDIA, before=NOW, after=PLACE, limit=99),
        "ix_jobs_media_kept",
    ),
    "expired metadata": (
        lambda db: purges.expired(db, Part.METADATA, before=NOW, after=None, limit=99),
        "ix_jobs_metadata_kept",
    ),
    "ended": (lambda db: purges.ended(db, before=NOW, after=PLACE, limit=99), "ix_jobs_ended"),
    "kept": (
        lambda db: purges.kept(db, before=NOW, status=None, after=PLACE, limit=99),
        "ix_jobs_ended",
    ),
    "owing": (lambda db: purges.owing(db, MANY), "uq_attempts_job_id_n"),
    "owners": (
        lambda db: purges.owners(db, MANY),
        "pk_jobs pk_media uq_attempts_job_id_n",
    ),
    "purge": (
        lambda db: apply(db, number(208), decide_to_purge),
        "pk_jobs",
    ),  # a stream without a reader
    "erase": (
        lambda db: apply(db, number(108), erases),
        "pk_jobs pk_media uq_attempts_job_id_n",
    ),
    "remove": (
        removes,
        (
            "ix_deliveries_job ix_idempotency_keys_job ix_job_tags_job "
            "pk_job_inputs pk_jobs pk_media pk_events uq_attempts_job_id_n"
        ),
    ),
    "accept below a limit": (
        lambda db: jobs.insert_job(db, a_job(), max_live=10_000_000),
        "ix_jobs_list_by_status",
    ),
    "accept with a key": (
        lambda db: jobs.insert_job(db, a_job(), identity=request("key67")),
        "pk_idempotency_keys pk_jobs",
    ),
    "repeat with a key": (
        lambda db: jobs.find_earlier(db, request("key67"), now=NOW),
        "pk_idempotency_keys pk_jobs pk_media",
    ),
    "repeat without a key": (
        lambda db: jobs.insert_job(db, a_job(), identity=request(window=timedelta(days=999))),
        "ix_unkeyed_requests_digest pk_jobs",
    ),
    "inputs of a new job": (
        lambda db: jobs.insert_job(db, needing(number(8), number(8))),
        "pk_jobs pk_uploads pk_media",
    ),
    "waiting for inputs": (
        lambda db: inputs.waiting(db, after=(number(1), 0), limit=99),
        "ix_job_inputs_waiting pk_jobs",
    ),
    "sources": (
        lambda db: inputs.sources(db, needing(number(8), number(8))),
        "pk_jobs",
    ),
    "output": (
        lambda db: inputs.output(db, number(8), index=0, tenant_id="default"),
        "ix_jobs_list pk_media",
    ),
    "jobs in use": (
        lambda db: inputs.jobs_in_use(db, MANY),
        "ix_job_inputs_source uq_attempts_job_id_n",
    ),
    "an equal job": (looks_for_equal_job, "ix_jobs_reusable"),
    "fetched": (lambda db: inputs.fetched(db, number(8), 0), "pk_job_inputs pk_uploads"),
    "keep a fetched file": (
        lambda db: inputs.keep_fetched(db, number(8), 0, an_upload(id=UploadId(number(8)))),
        "pk_job_inputs pk_jobs pk_uploads",
    ),
    "inputs are ready": (lambda db: apply(db, number(300), readies), "pk_jobs pk_job_inputs"),
    "inputs are needed no more": (
        lambda db: apply(db, number(301), ends_with_inputs),
        "pk_jobs pk_job_inputs",
    ),
    "upload": (lambda db: uploads.claim(db, an_upload()), "uq_uploads_tenant_id_kept_sha256"),
    "stored upload": (
        lambda db: uploads.mark_stored(db, UploadId(number(8))),
        "pk_uploads",
    ),
    "get an upload": (
        lambda db: uploads.get(db, UploadId(number(8)), tenant_id="default"),
        "pk_uploads",
    ),
    "expired uploads": (
        lambda db: uploads.begin_expiry(db, before=SOON, limit=3),
        "ix_uploads_expiry ix_job_inputs_upload pk_uploads",
    ),
    "uploads being removed": (
        lambda db: uploads.being_removed(db, limit=9),
        "ix_uploads_being_removed",
    ),
    "forget uploads": (
        lambda db: uploads.forget(db, [UploadId(number(4))]),
        "pk_uploads",
    ),
    "forget requests": (
        lambda db: idempotency.remove_expired(db, keys_before=SOON, unkeyed_before=SOON),
        "ix_idempotency_keys_age pk_unkeyed_requests",
    ),
    "history": (lambda db: events.of_job(db, number(8), after=1), "pk_events"),
    "stream": (
        lambda db: event_stream.page(db, "default", after=Cursor(500), limit=99),
        "ix_events_stream",
    ),
    "stream's horizon": (event_stream.now, ""),
    "streak": (
        lambda db: events.streak(db, number(8), "postponed", code="away", ignored={"released"}),
        "pk_events",
    ),
    "leaps": (clock.leaps, ""),
    "drop the anchor": (
        lambda db: clock.drop_anchor(db, "boot", wall=lambda: NOW, steady=lambda: 1.0),
        "",
    ),
    "anchor": (lambda db: clock.anchor(db, "boot"), ""),
    "leap": (leaps, "ix_jobs_ended ix_jobs_deadline"),
    "restarted": (lambda db: clock.restarted(db, "boot"), ""),
    "claim": (lambda db: apply(db, number(100), claims()), "pk_jobs"),
    "claim below a limit": (
        lambda db: apply(db, number(300), claims(), start=StartLimit(10_000_000)),
        "pk_jobs ix_jobs_list_by_status",
    ),
    "running": (
        lambda db: limits.count_running(db, ["default"], default=9),
        "ix_jobs_list_by_status",
    ),
    "bind": (
        lambda db: apply(db, number(104), binds("new"), attempt_id=try_of(104)),
        "pk_jobs pk_attempts",
    ),
    "cancel": (lambda db: apply(db, number(102), stopped), "pk_jobs uq_attempts_job_id_n"),
    "complete": (lambda db: apply(db, number(106), completes()), "pk_jobs"),
    "accept": (lambda db: jobs.insert_job(db, a_job()), ""),
    "lanes": (deliveries.lanes, "ix_deliveries_due ix_deliveries_order"),
    "claim deliveries": (
        lambda db: deliveries.claim(db, Claim(LANE, 4, now=NOW, until=NOW)),
        "ix_deliveries_due ix_deliveries_order pk_deliveries",
    ),
    "report a delivery": (delivers, "ix_deliveries_order pk_deliveries"),
    "old deliveries": (
        lambda db: deliveries.remove_ended(db, before=START, limit=100),
        "ix_deliveries_ended pk_deliveries",
    ),
    "deliveries": (log_page(), "ix_deliveries_list"),
    "more deliveries": (log_page(after=DeliveryId(number(5000))), "ix_deliveries_list"),
    "delivered ones": (log_page(state=DeliveryState.DELIVERED), "ix_deliveries_list"),
    "failed deliveries": (log_page(state=DeliveryState.FAILED), "ix_deliveries_failed"),
    "deliveries to an endpoint": (
        log_page(endpoint_id=EndpointId(LANE)),
        "ix_deliveries_endpoint",
    ),
    "deliveries about a job": (log_page(job_id=number(9)), "ix_deliveries_job"),
    "replay": (replays, "pk_deliveries"),
}


@pytest.fixture
async def full_database(
    _full_suite: None, database: str, services: Services
) -> AsyncGenerator[Database]:
    """Return an open database with 100,000 jobs, shared by all tests of the run."""

    def make() -> str:
        url = f"sqlite:///{services.folder}/crowd.db"
        if database == "postgresql":
            server = services.postgres()
            name = server.create(template=MIGRATED)
            url = f"{server.url(name)}?connect_timeout={PATIENCE_SECONDS}{SLOW_LOCKS}"
        apart(asyncio.run, insert_jobs(url))
        return url

    services.postgres()  # not started while `once` holds its lock
    async with open_database(services.once(f"crowd-{database}", make)) as db:
        yield db


STEPS: Final = 350
"""Thousands of steps of SQLite's machine: less than it takes to read 100,000 entries of an index."""
COUNTED: Final = {"count", "days"}
"""Look at 10,000 jobs each, and take more."""


async def test_each_call_finds_its_rows_by_an_index(
    full_database: Database, subtests: pytest.Subtests
) -> None:
    """It uses the index meant for it, and scans no table; on SQLite it reads a short range of it.

    An index of which SQLite uses the first column alone is read whole, and the plan names it all the same.
    """
    steps = counted_steps(full_database)
    for name in CALLS:
        with subtests.test(name=str(name)[:40]):
            call, expected = CALLS[name]

            before = next(steps)
            with captured(full_database) as statements:
                await call(full_database)

            assert next(steps) - before < STEPS or name in COUNTED
            used: set[str] = set()
            for statement, values in statements:
                walked, indexes = await explained(full_database, statement, values)
                assert walked & BIG == set(), statement
                used |= indexes
            used = {SAME_ROWS.get(name, {}).get(index, index) for index in used}
            used -= UNASKED | REFERENCES.get((full_database.kind, name), set())
            assert {name for name in used if "workers" not in name} == set(expected.split())


SEARCHES: Final[Mapping[str, tuple[JobFilter, Mapping[str, str]]]] = {
    "a rare word": (
        JobFilter(q="no 8"),
        {
            "sqlite": "ix_jobs_list pk_media",
            "postgresql": "ix_jobs_list ix_jobs_words pk_jobs pk_media",
        },
    ),
    "a frequent word": (
        JobFilter(q="red"),
        {"sqlite": "ix_jobs_list pk_media", "postgresql": "ix_jobs_list pk_media"},
    ),
    "a word that is nowhere": (
        JobFilter(q="crow"),
        {"sqlite": "", "postgresql": "ix_jobs_list ix_jobs_words"},
    ),
    "a frequent word of a rare model": (
        JobFilter(q="red", model=ModelName("the/rarest"), oldest_first=True),
        {
            "sqlite": "ix_jobs_list_by_model pk_jobs",
            "postgresql": "ix_jobs_list ix_jobs_list_by_model ix_jobs_words",
        },
    ),
}


async def test_words_are_found_by_an_index(
    full_database: Database, subtests: pytest.Subtests
) -> None:
    """Each kind of database has its own; frequent words are found while paging."""
    for name in SEARCHES:
        with subtests.test(name=str(name)[:40]):
            wanted, expected = SEARCHES[name]

            with captured(full_database) as statements:
                await listing.page(full_database, wanted, tenant_id="default", limit=20)

            used: set[str] = set()
            for statement, values in statements:
                walked, indexes = await explained(full_database, statement, values)
                assert walked & BIG == set(), statement
                used |= indexes
            assert used == set(expected[full_database.kind].split())


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize(
    "name", ["due", "next run", "tally", "held", "uncollected", "overdue", "waiting", "outlook"]
)
async def test_a_rush_after_a_quiet_time_uses_the_same_index(database_url: str, name: str) -> None:
    """Statistics say that nothing is pending, until they are updated."""
    call, expected = CALLS[name]
    async with open_database(database_url) as db:
        await jobs.insert_job(db, a_job(status=Status.COMPLETED, completed_at=NOW))
        async with db.write() as tx:
            await tx.exec_driver_sql("ANALYZE")
        await asyncio.gather(*(jobs.insert_job(db, a_job(run_at=START)) for _ in range(200)))

        with captured(db) as statements:
            await call(db)

        plans = [await explained(db, *one, seqscan=False) for one in statements]
    used = {index for _, indexes in plans for index in indexes}
    assert used - UNASKED == set(expected.split())


async def test_ended_workers_are_not_scanned_on_sqlite(full_database: Database) -> None:
    """PostgreSQL decides by their number; SQLite must have the index."""
    with captured(full_database) as statements:
        await workers.ended_holders(full_database)
        await workers.running(full_database)

    plans = [await explained(full_database, statement, values) for statement, values in statements]
    assert len(plans) == 2
    assert all(full_database.kind == "postgresql" or indexes for _, indexes in plans)


def counted_steps(db: Database) -> Iterator[int]:
    """Return what counts thousands of steps of SQLite's machine; on PostgreSQL it only counts calls."""
    steps = itertools.count()
    if db.kind == "sqlite":

        def count(connection: Any, _: Any) -> None:
            connection.run_async(lambda one: one.set_progress_handler(tick, 1000))

        def tick() -> None:
            next(steps)

        for pool in (db._reader, db._writer):
            event.listen(pool, "connect", count)
    return steps


@contextmanager
def captured(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """Capture executed statements with the values of their first row."""
    found: dict[str, Any] = {}

    def capture(_: Any, __: Any, statement: str, values: Any, ___: Any, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy calls it so
        found.setdefault(statement, values[0] if many else values)

    statements: list[tuple[str, Any]] = []
    pools = (db._reader, db._writer)
    for pool in pools:
        event.listen(pool, "before_cursor_execute", capture)
    yield statements
    for pool in pools:
        event.remove(pool, "before_cursor_execute", capture)
    statements.extend(one for one in found.items() if not one[0].startswith(("BEGIN", "LOCK")))


async def explained(
    db: Database, statement: str, values: Any, *, seqscan: bool = True
) -> tuple[set[str], set[str]]:
    """Return the tables that the plan scans and the indexes that it uses.

    Without `seqscan`, PostgreSQL avoids scans of small tables as well as of large ones.
    """
    explain = "EXPLAIN QUERY PLAN " if db.kind == "sqlite" else "EXPLAIN (FORMAT JSON) "
    async with db.write() as tx:
        if not seqscan:
            await tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = (await tx.exec_driver_sql(explain + statement, values)).all()
    planned = [row[-1] for row in plan]
    return _sqlite(planned) if db.kind == "sqlite" else _postgres(planned[0])


def _sqlite(lines: list[str]) -> tuple[set[str], set[str]]:
    walked, indexes = set(), set()
    for line in lines:
        table = re.match(r"SCAN (\w+)", line)
        index = re.search(r"USING (?:COVERING )?INDEX (\w+)", line)
        if index is not None:
            indexes.add(KEYS.get(index[1], index[1]))
        elif table is not None:
            walked.add(table[1])
    return walked, indexes


def _postgres(plans: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    walked, indexes = set(), set()
    nodes = [plans[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes.extend(node.get("Plans", ()))
        if node["Node Type"] == "Seq Scan":
            walked.add(node["Relation Name"])
        if "Index Name" in node:
            indexes.add(node["Index Name"])
    return walked, indexes
