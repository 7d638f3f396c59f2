"""The evidence of a run: database, ledger, storage, logs, and the requests of clients."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from chaos.flood import Answered
from chaos.follower import Followed
from chaos.host import Host
from chaos.receiver import Arrival
from chaos.signatures import unsigned
from fleek.domain.media import original_key
from service_process import Service

JOBS: Final = (
    "SELECT id, prompt, status, attempt, max_attempts, attempt_id, prediction_id, error_code,"
    " version, tenant_id, webhook FROM jobs"
)
ATTEMPTS: Final = (
    "SELECT id, job_id, n, prediction_id, verdict, cancel_owed, metrics, provider FROM attempts"
)
CHARGES: Final = "SELECT job_id, number, tenant_id, day, estimate, actual, state FROM charges"
SPEND: Final = "SELECT tenant_id, start, reserved, spent FROM spend WHERE key_id = ''"
COSTS: Final = "SELECT id, cost FROM jobs"
EVENTS: Final = "SELECT job_id, seq, type, data FROM events ORDER BY job_id, seq"
MEDIA: Final = 'SELECT job_id, attempt_id, "index", key, sha256, size_bytes FROM media'
FAILPOINT: Final = re.compile(r"^failpoint \S+ (\w+)$", re.MULTILINE)
DELIVERIES: Final = (
    "SELECT id, tenant_id, endpoint_id, url, job_id, seq, type, state, body FROM deliveries"
)
ENDPOINTS: Final = "SELECT id, tenant_id, url, events FROM endpoints"
KEYS: Final = (
    "SELECT tenant_id, key, job_id FROM idempotency_keys"
    " WHERE job_id NOT IN (SELECT id FROM batches)"
)
TALLIES: Final = "SELECT status, sum(jobs) FROM tallies GROUP BY status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job's row."""

    id: UUID
    prompt: str
    status: str
    attempt: int
    max_attempts: int
    attempt_id: UUID | None
    prediction_id: str | None
    error_code: str | None
    version: int
    tenant_id: str
    webhook: tuple[str, frozenset[str]] | None  # its own webhook URL and events


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt's row."""

    id: UUID
    job_id: UUID
    n: int
    prediction_id: str | None
    verdict: str | None
    cancel_owed: bool
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provider: str = "replicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The row of an attempt's charge, in 10^-6 USD."""

    job_id: UUID
    number: int
    tenant_id: str
    day: str
    estimate: int | None
    actual: int | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """A row of the spend: what a budget has in one period."""

    tenant_id: str  # empty: everybody
    start: str  # of the days in the period
    reserved: int
    spent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a job's history."""

    job_id: UUID
    seq: int
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A stored file's row."""

    job_id: UUID
    attempt_id: UUID
    index: int
    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A prediction in the ledger."""

    id: str
    attempt_id: UUID | None  # the attempt in its callback address; None: it has no such address
    prompt: str
    begun: float
    ended: float | None  # None: it is running
    heading: str | None  # its end, and whether it had started; None: it is running
    billed: float
    micros: int = 0  # its price in 10^-6 USD
    vanished: bool = False  # missing in reads and lists
    unheard: bool = False  # only its callback could have found it, and none was accepted
    unshown: bool = False  # it vanished, and no callback of it was accepted
    overran: bool = False  # stopped by the time limit of its own request
    denied: bool = False  # its cancellation was confirmed, but it ran on or had ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook's row."""

    id: str  # as its receiver sees it
    tenant_id: str
    endpoint_id: UUID | None  # None: to the job's own address
    url: str | None  # of the job
    job_id: UUID
    seq: int
    type: str
    state: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint of a tenant for webhooks."""

    id: UUID
    tenant_id: str
    url: str
    events: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An idempotency key, and the job of its request."""

    tenant_id: str
    key: str
    job_id: UUID


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All evidence, read when the service is idle."""

    jobs: Mapping[UUID, Job]
    attempts: Sequence[Attempt]
    events: Mapping[UUID, Sequence[Event]]
    media: Mapping[UUID, Sequence[Media]]
    tallies: Mapping[str, int]
    sales: Sequence[Sale]
    files: Mapping[str, tuple[int, str]]  # by key: size and sha256 of what is in storage now
    truths: Mapping[tuple[str, int], str]  # (prediction, index) → sha256 of the file it made
    tokens: frozenset[str]  # fingerprints of the tokens in create requests
    accounts: int  # whose tokens the service was given
    leaks: int  # downloads with a token
    orphans: frozenset[str]  # predictions that the service logged as orphans
    logs: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    webhooks: Sequence[Mapping[str, Any]]
    strikes: Mapping[str, int]  # how often each fault struck, at the provider or in a process
    deliveries: Sequence[Delivery]
    endpoints: Sequence[Endpoint]
    received: Sequence[Arrival]  # received webhooks
    secrets: Mapping[str, Sequence[str]]  # by the path of a receiver: its possible secrets
    keys: Sequence[Key]
    followed: Mapping[str, Sequence[Followed]]  # by tenant: its received events
    crowded: Mapping[str, int]  # by tenant: the highest number of unfinished jobs
    max_live: int | None  # its limit
    resumed: int = 0  # number of resumed streams
    charges: Sequence[Charge] = ()
    spend: Sequence[Spent] = ()
    costs: Mapping[UUID, int | None] = field(default_factory=dict)  # of jobs
    flood: Sequence[Answered] = ()  # responses to a caller beyond its rate
    rate_per_minute: int = 0  # its rate limit; 0: none
    bare: Mapping[str, str] = field(default_factory=dict)
    """By key: the sha256 of a signed file without its manifest."""

    @property
    def thumbnails(self) -> list[str]:
        """The keys of small pictures in storage."""
        return [key for key in self.files if original_key(key) != key]

    @cached_property
    def unfindable(self) -> frozenset[str]:
        """Predictions that nothing of the provider's showed after the answer to their creation was lost.

        The job is started again, as GUARANTEES allows: by then no list has had the prediction for long.
        """
        bound = {attempt.prediction_id for attempt in self.attempts}
        return frozenset(sale.id for sale in self.sales if sale.unshown and sale.id not in bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Observations from outside that cannot be read afterwards."""

    history: Sequence[Mapping[str, Any]]
    received: Sequence[Arrival]
    secrets: Mapping[str, Sequence[str]]
    followed: Mapping[str, Sequence[Followed]]
    crowded: Mapping[str, int]
    resumed: int
    flood: Sequence[Answered]


def gather(
    service: Service,
    host: Host,
    seen: Seen,
) -> Evidence:
    """Read all evidence."""
    ledger = host.ledger()
    heard = {row["id"] for row in ledger["webhooks"] if 200 <= (row["peer_status"] or 0) < 300}
    logs = list(_log_lines(process.log for process in service.processes))
    events: dict[UUID, list[Event]] = defaultdict(list)
    for job_id, seq, kind, data in service.rows(EVENTS):
        line = Event(job_id=_uuid(job_id), seq=seq, type=kind, data=json.loads(data))
        events[line.job_id].append(line)
    media: dict[UUID, list[Media]] = defaultdict(list)
    for job_id, attempt_id, index, key, digest, size in service.rows(MEDIA):
        owner = {"job_id": _uuid(job_id), "attempt_id": _uuid(attempt_id)}
        media[owner["job_id"]].append(
            Media(**owner, index=index, key=key, sha256=digest, size_bytes=size)
        )
    return Evidence(
        jobs={job.id: job for job in map(_job, service.rows(JOBS))},
        attempts=[_attempt(row) for row in service.rows(ATTEMPTS)],
        events=events,
        media=media,
        tallies={status: int(number) for status, number in service.rows(TALLIES)},
        sales=[_sale(row, heard) for row in ledger["predictions"]],
        files=dict(_files(service.folder / "storage")),
        bare=dict(_bare(service.folder / "storage" / "media")),
        truths={(row["id"], row["n"]): row["sha256"] for row in ledger["downloads"]},
        tokens=frozenset(row["token"] for row in ledger["predictions"]),
        accounts=host.accounts,
        leaks=sum(bool(row["authorization"]) for row in ledger["downloads"]),
        orphans=frozenset(
            str(_own_id(row["prediction_id"]))
            for row in logs
            if row["event"] == "orphan_prediction"
        ),
        logs=logs,
        history=seen.history,
        webhooks=ledger["webhooks"],
        strikes=_strikes(ledger, [process.log for process in service.processes]),
        deliveries=[_delivery(row) for row in service.rows(DELIVERIES)],
        endpoints=[_endpoint(row) for row in service.rows(ENDPOINTS)],
        received=list(seen.received),
        secrets=seen.secrets,
        keys=[
            Key(tenant_id=tenant_id, key=key, job_id=_uuid(job_id))
            for tenant_id, key, job_id in service.rows(KEYS)
        ],
        charges=[_charge(row) for row in service.rows(CHARGES)],
        spend=[
            Spent(tenant_id=tenant_id, start=start, reserved=int(reserved), spent=int(spent))
            for tenant_id, start, reserved, spent in service.rows(SPEND)
        ],
        costs={_uuid(job_id): cost for job_id, cost in service.rows(COSTS)},
        followed=seen.followed,
        crowded=seen.crowded,
        resumed=seen.resumed,
        flood=seen.flood,
        rate_per_minute=int(service.env.get("RATE_PER_MINUTE", "0")),
        max_live=int(most) if (most := service.env.get("MAX_LIVE_JOBS")) else None,
    )


def _uuid(value: Any) -> UUID:
    return UUID(str(value))


def _maybe(value: Any) -> UUID | None:
    return None if value is None else _uuid(value)


def _job(row: Sequence[Any]) -> Job:
    return Job(
        id=_uuid(row[0]),
        prompt=row[1],
        status=row[2],
        attempt=row[3],
        max_attempts=row[4],
        attempt_id=_maybe(row[5]),
        prediction_id=_own_id(row[6]),
        error_code=row[7],
        version=row[8],
        tenant_id=row[9],
        webhook=_webhook(row[10]),
    )


def _attempt(row: Sequence[Any]) -> Attempt:
    return Attempt(
        id=_uuid(row[0]),
        job_id=_uuid(row[1]),
        n=row[2],
        prediction_id=_own_id(row[3]),
        verdict=row[4],
        cancel_owed=bool(row[5]),
        metrics=json.loads(row[6] or "{}"),
        provider=row[7],
    )


def _charge(row: Sequence[Any]) -> Charge:
    return Charge(
        job_id=_uuid(row[0]),
        number=row[1],
        tenant_id=row[2],
        day=row[3],
        estimate=row[4],
        actual=row[5],
        state=row[6],
    )


def _own_id(prediction_id: Any) -> str | None:
    """Return a prediction's id as the provider has it, without the path before it."""
    return None if prediction_id is None else str(prediction_id).rpartition("/")[2]


def _webhook(stored: str | None) -> tuple[str, frozenset[str]] | None:
    found = None if stored is None else json.loads(stored)
    return None if found is None else (found["url"], frozenset(found["events"]))


def _delivery(row: Sequence[Any]) -> Delivery:
    return Delivery(
        id=f"msg_{_uuid(row[0]).hex}",
        tenant_id=row[1],
        endpoint_id=_maybe(row[2]),
        url=row[3],
        job_id=_uuid(row[4]),
        seq=row[5],
        type=row[6],
        state=row[7],
        body=row[8],
    )


def _endpoint(row: Sequence[Any]) -> Endpoint:
    events = frozenset(json.loads(row[3]))
    return Endpoint(id=_uuid(row[0]), tenant_id=row[1], url=row[2], events=events)


def _sale(row: Mapping[str, Any], heard: Container[str]) -> Sale:
    silent = row["id"] not in heard
    token = str(row["webhook_url"] or "").rpartition("/")[2].partition(".")[0]
    attempt_id = row["id"] if row["provider"] == "comfyui" else token
    return Sale(
        id=row["id"],
        attempt_id=UUID(attempt_id) if attempt_id else None,
        prompt=str(row["prompt"]),
        begun=row["t"],
        ended=None if row["heading"] is None else row["history"][-1][0],
        heading=row["heading"],
        billed=row["billed"],
        micros=row["billed_micros"],
        vanished=row["vanished"],
        unheard=row["provider"] == "fal" and silent,
        unshown=row["vanished"] and silent,
        overran=row["overran"],
        denied=row["cancel_lied"] or row["deleted"],
    )


def _files(root: Path) -> Iterable[tuple[str, tuple[int, str]]]:
    for area in ("media", "metadata", "uploads"):
        for path in (root / area).rglob("*"):
            key = path.relative_to(root).as_posix()
            if path.is_file() and not any(part.startswith(".") for part in path.parts):
                content = path.read_bytes()
                yield key, (len(content), hashlib.sha256(content).hexdigest())


def _bare(media: Path) -> Iterable[tuple[str, str]]:
    for path in media.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            without = unsigned(content)
            if without != content:
                key = path.relative_to(media.parent).as_posix()
                yield key, hashlib.sha256(without).hexdigest()


def _strikes(ledger: Mapping[str, Any], paths: Iterable[Path]) -> Counter[str]:
    found: Counter[str] = Counter()
    for kind in ("requests", "webhooks", "downloads"):
        for row in ledger[kind]:
            found.update(row["faults"])
    for row in ledger["predictions"]:
        found.update([*row["traits"]])
    for path in paths:
        found.update(FAILPOINT.findall(path.read_text(errors="replace")))
    return found


def _log_lines(paths: Iterable[Path]) -> Iterable[Mapping[str, Any]]:
    for path in paths:
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except ValueError:  # cut off by a kill
                    continue
