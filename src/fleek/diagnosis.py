"""What the facts about an installation mean, and what to do: the words of `doctor` and health."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from fleek.domain.job import Job, WorkerId
from fleek.providers.base import OPERATOR_ACTION_CODES
from fleek.store.counters import JobCounts
from fleek.store.provider_health import ProviderHealth
from fleek.store.workers import Worker

SYNCHRONOUS: Final = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
LONG_WAIT: Final = timedelta(minutes=10)  # a due job that waits longer is worth a warning

SKEW: Final = timedelta(seconds=2)  # clocks that differ by less are the same
SKEW_OF_HOSTS: Final = timedelta(seconds=5)  # as above, if a date of whole seconds tells
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


HOST_OF_OUTPUTS: Final = "see whether the host of the outputs can be reached from here"
CURES: Final[Mapping[str, str]] = {
    "provider_unavailable": HOST_OF_OUTPUTS,
    "output_interrupted": HOST_OF_OUTPUTS,
    "output_missing": HOST_OF_OUTPUTS,
    "output_broken": HOST_OF_OUTPUTS,
    "provider_not_configured": "configure the provider that the jobs were started with",
    "resources_exhausted": "raise the process's limits (ulimit -n), or lower WORKER_CONCURRENCY",
    "storage_unavailable": ADVICE["storage"],
    "storage_full": "make room in the storage, or lower MIN_FREE_BYTES",
    "database_unavailable": ADVICE["database"],
}
"""What to do about paid results that wait, by the code of what they wait for."""


REFUSALS: Final = frozenset({"unsafe_output", "output_too_large"})
"""Codes of jobs whose paid result some setting does not allow."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one subject."""

    subject: str
    status: Status
    message: str
    advice: str = ""  # what to do; empty if nothing


def durability(facts: Mapping[str, str]) -> Finding:
    """Judge the facts of `Database.facts`: does an accepted job survive a loss of power?"""
    message = f"{facts['kind']} {facts['version']}, schema {facts['revision']}"
    if facts["kind"] == "sqlite":
        level = SYNCHRONOUS.get(facts["synchronous"], facts["synchronous"])
        message += f", journal_mode {facts['journal_mode']}, synchronous {level}"
        safe = facts["journal_mode"] == "wal" and level in {"FULL", "EXTRA"}
        advice = "keep the file on a local disk; network file systems do not work"
    else:
        message += f", synchronous_commit {facts['synchronous_commit']}, fsync {facts['fsync']}"
        safe = facts["synchronous_commit"] != "off" and facts["fsync"] == "on"
        advice = "switch both on, or a loss of power loses accepted jobs"
    return Finding("database", "ok", message) if safe else warning("database", message, advice)


def crew(alive: Sequence[Worker]) -> Finding:
    """Judge who works."""
    if not alive:
        return Finding("workers", "error", "none is alive: jobs wait", START_A_WORKER)
    slots, versions = sum(one.slots for one in alive), sorted({one.version for one in alive})
    message = f"{len(alive)} alive, with {slots} slots, version {' and '.join(versions)}"
    return Finding("workers", "ok", message)


def clocks(alive: Sequence[Worker], *, ahead: timedelta, now: datetime) -> list[Finding]:
    """Judge whether all go by the same time; this process's clock is so far `ahead` of it."""
    findings = []
    if abs(ahead) > SKEW:
        findings.append(warning("clock", _apart(ahead, "the service's time"), SAME_TIME))
    if any(worker.heartbeat_at > now + SKEW for worker in alive):
        findings.append(warning("clock", "a worker's last heartbeat is in the future", SAME_TIME))
    return findings


def clock(ahead: timedelta, provider: Mapping[str, timedelta]) -> Finding:
    """Judge this process's wall clock; it is so far ahead of the service's time, and providers'."""
    if abs(ahead) > SKEW:
        return warning("clock", _apart(ahead, "the service's time"), SAME_TIME)
    for name, offset in provider.items():
        if abs(offset) > SKEW_OF_HOSTS:
            return warning("clock", _apart(offset, f"that of {name}"), SAME_TIME)
    return Finding("clock", "ok", "it agrees with the service's time")


def _apart(ahead: timedelta, what: str) -> str:
    where = "ahead of" if ahead > timedelta(0) else "behind"
    return f"it is {abs(ahead).total_seconds():.0f} s {where} {what}"


def writers(alive: Sequence[Worker], *, may_share: bool) -> list[Finding]:
    """Judge whether so many processes may write to one database."""
    if len(alive) <= 1 or may_share:
        return []
    message = f"{len(alive)} processes write to one file, and this SQLite is older than 3.51.3"
    advice = "use one process, a newer SQLite, or PostgreSQL: a rare race can break the file"
    return [warning("workers", message, advice)]


def coordination(holder: WorkerId | None, alive: Sequence[Worker]) -> Finding:
    """Judge who coordinates: nothing starts, and nothing ends, unless some worker does."""
    if any(worker.id == holder for worker in alive):  # no host name: anybody may read this
        return Finding("coordinator", "ok", f"worker {holder} coordinates")
    if not alive:
        return Finding("coordinator", "error", "nobody: no worker is alive", START_A_WORKER)
    advice = "wait a quarter of a minute; if it stays so, the workers' logs say why"
    return Finding("coordinator", "error", "nobody, although workers are alive", advice)


def line(tally: JobCounts) -> Finding:
    """Judge how long due jobs wait to be started."""
    if tally.oldest_pending_seconds is None:
        return Finding("queue", "ok", f"no job waits to be started; {tally.in_flight} in flight")
    waits = timedelta(seconds=max(0, round(tally.oldest_pending_seconds)))
    message = f"{tally.queue_depth} wait to be started, the first for {waits}"
    if waits < LONG_WAIT:
        return Finding("queue", "ok", message)
    advice = "start more workers, raise WORKER_CONCURRENCY or the provider's budget"
    return warning("queue", message, advice)


def results(postponed: Mapping[str, int]) -> Finding:
    """Judge what `store.queue.postponed` counts: paid results that cannot be stored now."""
    if not postponed:
        return Finding("results", "ok", "no paid result waits to be stored")
    by_number = sorted(postponed.items(), key=lambda one: -one[1])
    reasons = ", ".join(f"{number} for {code}" for code, number in by_number)
    message = f"{sum(postponed.values())} paid results wait to be stored: {reasons}"
    advice = CURES.get(by_number[0][0], "the jobs' `retrying` and the log of the workers say why")
    return Finding("results", "error", message, f"{advice}; nothing is lost, nor paid for again")


def refused(failed: Iterable[Job], *, since: datetime) -> list[Finding]:
    """Judge paid results that a setting of ours refused since then; `failed` begins with the last."""
    reasons = [
        job.error.message
        for job in failed
        if job.error is not None and job.error.code in REFUSALS and job.updated_at >= since
    ]
    if not reasons:
        return []
    message = f"{len(reasons)} paid results were refused, the last because {reasons[0]}"
    return [warning("results", message, "change the setting, then: fleek collect ID")]


def trouble(account: ProviderHealth) -> Finding:
    """Judge an account that rests: what about, until when."""
    assert account.paused_until is not None
    until = f"{account.paused_until:%H:%M:%S} UTC"
    if account.model:
        message = f"{account.model} rests until {until}: {account.failures} purchases in a row "
        message += f"failed, the last with {account.reason}"
        advice = "look at the provider's status page, and whether it can be reached from here"
        return warning(account.provider, message, advice)
    message = f"nothing is bought until {until}: {account.reason}"
    if account.reason in OPERATOR_ACTION_CODES:
        advice = f"{OPERATOR_ACTION_CODES[account.reason]}; its jobs wait, and go on by themselves"
        return Finding(account.provider, "error", message, advice)
    return warning(account.provider, message, "nothing, if it is seldom; else lower the budget")


def abandoned(counts: Mapping[str, int], *, known: Container[str]) -> list[Finding]:
    """Judge predictions of providers that are no longer configured: nobody can ask for them."""
    findings = []
    for name, number in sorted(counts.items()):
        if name not in known:
            message = (
                f"{number} predictions of {name}, which is no longer configured, are not closed"
            )
            advice = f"configure {name} again, or give them up: fleek providers abandon {name}"
            findings.append(warning("provider", message, advice))
    return findings


def warning(subject: str, message: str, advice: str) -> Finding:
    """Return what works, and should be changed."""
    return Finding(subject, "warning", message, advice)
