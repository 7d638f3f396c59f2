"""Checks of an installation's parts, each with its advice; `fleek doctor` and health run them.

A check asks one part and returns findings. It raises `FleekError` if the part does not answer:
`unreachable` turns that into a finding. The functions named ``judge_…`` are the checks' verdicts on
facts that are known already.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from fleek.dispatch.base import Dispatcher
from fleek.domain.job import DEFAULT_TENANT, Job, JobFilter, ModelName, WorkerId
from fleek.domain.job import Status as JobStatus
from fleek.domain.values import dataclass
from fleek.engine.coordinator import ROLE
from fleek.providers.base import OPERATOR_ACTION_CODES, Provider
from fleek.storage.base import Storage
from fleek.store import (
    attempts,
    listing,
    provider_health,
    queue,
    queue_pauses,
    tenants,
    workers,
)
from fleek.store.counters import JobCounts, count_jobs
from fleek.store.database import Database
from fleek.store.provider_health import ProviderHealth
from fleek.store.workers import Worker

SYNCHRONOUS: Final = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
LONG_WAIT: Final = timedelta(minutes=10)  # a due job that waits longer is worth a warning
RECENT: Final = 100  # failed jobs that are looked at
REFUSED_PERIOD: Final = timedelta(days=1)

SKEW: Final = timedelta(seconds=2)  # clocks that differ by less are the same
SKEW_OF_HOSTS: Final = timedelta(seconds=5)  # as above, for a date of whole seconds
SAME_TIME: Final = "run NTP on all machines"
START_A_WORKER: Final = "start one: fleek worker, or fleek serve"

Status = Literal["ok", "warning", "error"]

ADVICE: Final[Mapping[str, str]] = {
    "database": "check DATABASE_URL, and that the database runs",
    "storage": "check STORAGE_BACKEND and its settings (STORAGE_PATH, S3_…), and the rights there",
    "provider": "check PROVIDERS and the provider's own settings",
    "dispatcher": "check DISPATCH and REDIS_URL, and that the broker runs; jobs wait until then",
}
"""What to do about a part that does not answer."""

OUTPUT_HOST_ADVICE: Final = "check whether the output host can be reached from here"
RESULT_ADVICE: Final[Mapping[str, str]] = {
    "provider_unavailable": OUTPUT_HOST_ADVICE,
    "output_interrupted": OUTPUT_HOST_ADVICE,
    "output_missing": OUTPUT_HOST_ADVICE,
    "output_broken": OUTPUT_HOST_ADVICE,
    "provider_not_configured": "configure the provider that the jobs were started with",
    "resources_exhausted": "raise the process's limits (ulimit -n), or lower WORKER_CONCURRENCY",
    "storage_unavailable": ADVICE["storage"],
    "storage_full": "free space in the storage, or lower MIN_FREE_BYTES",
    "database_unavailable": ADVICE["database"],
}
"""What to do about paid results that wait, by the error code of the cause."""

REFUSALS: Final = frozenset({"unsafe_output", "output_too_large"})
"""Error codes of paid results that a setting does not allow."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check of one subject."""

    subject: str
    status: Status
    message: str
    advice: str = ""  # empty: nothing to do


async def check_database(db: Database) -> Finding:
    """Ask the database, and judge whether an accepted job survives a loss of power."""
    await db.check()
    return judge_durability(await db.facts())


async def check_dispatcher(dispatcher: Dispatcher, name: str) -> Finding:
    """Ask the dispatcher, and its broker if it has one."""
    await dispatcher.check()
    return Finding("dispatcher", "ok", f"{name}: jobs can be dispatched")


async def check_storage(storage: Storage, name: str) -> Finding:
    """Ask the storage whether files can be written."""
    await storage.check()
    return Finding("storage", "ok", f"{name}: files can be written")


async def check_provider(provider: Provider, name: str, *, model: str | None) -> Finding:
    """Ask the provider for the schema of `model`; None: its own default model."""
    model = model or provider.default_model
    if await provider.schema(ModelName(model)) is None:
        message = f"{name} does not show its default model {model}"
        return Finding("provider", "warning", message, "check the provider's status page")
    return Finding("provider", "ok", f"{name}: default model {model}")


async def check_queue(db: Database, *, now: datetime) -> Finding:
    """Look how long due jobs wait to be started."""
    counts = await count_jobs(db, now=now)
    paused = [one.name for one in await queue_pauses.read(db)]
    return judge_queue(counts, paused=paused, disabled=await tenants.number_disabled(db))


async def check_results(db: Database) -> Finding:
    """Look for paid results that cannot be stored now."""
    return judge_results(await queue.postponed(db))


async def check_refusals(db: Database, *, now: datetime) -> list[Finding]:
    """Look for paid results that a setting refused within the last day."""
    failed = JobFilter(statuses=frozenset({JobStatus.FAILED}))
    recent = await listing.page(db, failed, tenant_id=DEFAULT_TENANT, limit=RECENT)
    return judge_refusals([view.job for view in recent.views], since=now - REFUSED_PERIOD)


async def check_coordinator(db: Database, alive: Sequence[Worker], *, now: datetime) -> Finding:
    """Look which of the workers that are alive is the coordinator."""
    return judge_coordinator(await workers.holder(db, ROLE, now=now), alive)


async def check_pauses(db: Database, *, now: datetime, models: bool = True) -> list[Finding]:
    """Look for paused providers and, if `models`, for open circuit breakers of models."""
    impaired = await provider_health.impaired(db, now=now)
    return [
        judge_pause(health)
        for health in impaired
        if health.is_paused and (models or health.model == provider_health.ALL_MODELS)
    ]


async def check_removed_providers(db: Database, *, known: Container[str]) -> list[Finding]:
    """Look for open predictions of providers that are no longer configured."""
    return judge_removed_providers(await attempts.count_without_verdict(db), known=known)


def judge_durability(facts: Mapping[str, str]) -> Finding:
    """Judge by `Database.facts` whether an accepted job survives a loss of power."""
    message = f"{facts['kind']} {facts['version']}, schema {facts['revision']}"
    if facts["kind"] == "sqlite":
        level = SYNCHRONOUS.get(facts["synchronous"], facts["synchronous"])
        message += f", journal_mode {facts['journal_mode']}, synchronous {level}"
        safe = facts["journal_mode"] == "wal" and level in {"FULL", "EXTRA"}
        advice = "keep the file on a local disk; network file systems do not work"
    else:
        message += f", synchronous_commit {facts['synchronous_commit']}, fsync {facts['fsync']}"
        safe = facts["synchronous_commit"] != "off" and facts["fsync"] == "on"
        advice = "enable both, or a power failure loses accepted jobs"
    return Finding("database", "ok", message) if safe else warning("database", message, advice)


def judge_workers(alive: Sequence[Worker]) -> Finding:
    """Judge whether any worker is alive."""
    if not alive:
        return Finding("workers", "error", "no worker is alive: jobs wait", START_A_WORKER)
    slots = sum(worker.slots for worker in alive)
    versions = " and ".join(sorted({worker.version for worker in alive}))
    return Finding("workers", "ok", f"{len(alive)} alive, {slots} slots, version {versions}")


def judge_clocks(alive: Sequence[Worker], *, ahead: timedelta, now: datetime) -> list[Finding]:
    """Judge whether all processes have the same time; this one's clock is `ahead` of it."""
    findings = []
    if abs(ahead) > SKEW:
        findings.append(warning("clock", _apart(ahead, "the service's time"), SAME_TIME))
    if any(worker.heartbeat_at > now + SKEW for worker in alive):
        findings.append(warning("clock", "a worker's last heartbeat is in the future", SAME_TIME))
    return findings


def judge_clock(ahead: timedelta, provider: Mapping[str, timedelta]) -> Finding:
    """Judge this process's wall clock by its lead over the service's time and the providers' times."""
    if abs(ahead) > SKEW:
        return warning("clock", _apart(ahead, "the service's time"), SAME_TIME)
    for name, offset in provider.items():
        if abs(offset) > SKEW_OF_HOSTS:
            return warning("clock", _apart(offset, f"that of {name}"), SAME_TIME)
    return Finding("clock", "ok", "it agrees with the service's time")


def _apart(ahead: timedelta, what: str) -> str:
    where = "ahead of" if ahead > timedelta(0) else "behind"
    return f"it is {abs(ahead).total_seconds():.0f} s {where} {what}"


def judge_writers(alive: Sequence[Worker], *, may_share: bool) -> list[Finding]:
    """Judge whether this number of processes may write to one database."""
    if len(alive) <= 1 or may_share:
        return []
    message = f"{len(alive)} processes write to one file, and this SQLite is older than 3.51.3"
    advice = "use one process, a newer SQLite, or PostgreSQL: a rare race can corrupt the file"
    return [warning("workers", message, advice)]


def judge_coordinator(holder: WorkerId | None, alive: Sequence[Worker]) -> Finding:
    """Judge whether there is a coordinator: without one, nothing starts and nothing ends."""
    if any(worker.id == holder for worker in alive):  # no host name: anybody may read this
        return Finding("coordinator", "ok", f"worker {holder}")
    if not alive:
        return Finding("coordinator", "error", "none: no worker is alive", START_A_WORKER)
    advice = "wait 15 seconds; if there is still none, see the workers' logs"
    return Finding("coordinator", "error", "none, although workers are alive", advice)


def judge_queue(counts: JobCounts, *, paused: Sequence[str] = (), disabled: int = 0) -> Finding:
    """Judge how long due jobs wait to be started.

    `paused` names what an operator has paused, `disabled` is the number of disabled tenants.
    """
    if paused:
        message = f"{counts.queue_depth} wait to be started; paused: {', '.join(paused)}"
        return warning("queue", message, "to go on: fleek queue resume")
    if counts.oldest_pending_seconds is None:
        return Finding("queue", "ok", f"no job waits to be started; {counts.in_flight} in flight")
    waits = timedelta(seconds=max(0, round(counts.oldest_pending_seconds)))
    message = f"{counts.queue_depth} wait to be started, the first for {waits}"
    if waits < LONG_WAIT:
        return Finding("queue", "ok", message)
    advice = "start more workers, raise WORKER_CONCURRENCY, MAX_RUNNING or the provider's budget"
    if disabled:
        advice = f"jobs of disabled tenants ({disabled}) wait: fleek tenants list; else {advice}"
    return warning("queue", message, advice)


def judge_results(postponed: Mapping[str, int]) -> Finding:
    """Judge the counts of `store.queue.postponed`: paid results that cannot be stored now."""
    if not postponed:
        return Finding("results", "ok", "no paid result waits to be stored")
    by_number = sorted(postponed.items(), key=lambda count: -count[1])
    reasons = ", ".join(f"{number} for {code}" for code, number in by_number)
    message = f"{sum(postponed.values())} paid results wait to be stored: {reasons}"
    advice = RESULT_ADVICE.get(
        by_number[0][0], "see `retrying` of these jobs, and the workers' logs"
    )
    return Finding(
        "results", "error", message, f"{advice}; nothing is lost, and nothing is paid for again"
    )


def judge_refusals(failed: Iterable[Job], *, since: datetime) -> list[Finding]:
    """Judge paid results that a setting refused after `since`; `failed` is sorted, newest first."""
    reasons = [
        job.error.message
        for job in failed
        if job.error is not None and job.error.code in REFUSALS and job.updated_at >= since
    ]
    if not reasons:
        return []
    message = f"{len(reasons)} paid results were refused, the latest because {reasons[0]}"
    return [warning("results", message, "change the setting, then: fleek collect ID")]


def judge_pause(health: ProviderHealth) -> Finding:
    """Judge a paused provider, or a model whose circuit breaker is open."""
    assert health.paused_until is not None
    until = f"{health.paused_until:%H:%M:%S} UTC"
    if health.model:
        message = f"{health.model} is paused until {until}: {health.failures} predictions in a "
        message += f"row could not be started, the last because of {health.reason}"
        advice = "check the provider's status page, and the network from here to it"
        return warning(health.provider, message, advice)
    message = f"paused until {until}: {health.reason}"
    if health.reason in OPERATOR_ACTION_CODES:
        advice = f"{OPERATOR_ACTION_CODES[health.reason]}; its jobs wait and resume by themselves"
        return Finding(health.provider, "error", message, advice)
    return warning(
        health.provider,
        message,
        "nothing, if it is rare; otherwise lower the provider's rate limit",
    )


def judge_removed_providers(counts: Mapping[str, int], *, known: Container[str]) -> list[Finding]:
    """Judge open predictions of providers that are no longer configured."""
    findings = []
    for name, number in sorted(counts.items()):
        if name not in known:
            message = f"{number} open predictions of {name}, which is no longer configured"
            advice = (
                f"configure {name} again, or give them up with: fleek providers abandon {name}"
            )
            findings.append(warning("provider", message, advice))
    return findings


def warning(subject: str, message: str, advice: str) -> Finding:
    """Return a finding about a part that works and should be changed."""
    return Finding(subject, "warning", message, advice)


def unreachable(subject: str, reason: str) -> Finding:
    """Return the finding about a part that does not answer."""
    return Finding(subject, "error", reason, ADVICE.get(subject, ""))
