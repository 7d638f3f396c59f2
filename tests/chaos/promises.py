"""Checks the promises to callers: the invariants I6 and I8-I11.

Each check yields one sentence per violation.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Final
from uuid import UUID

from standardwebhooks import Webhook

from chaos.evidence import Delivery, Evidence, Job
from chaos.flood import excess
from chaos.follower import Followed
from chaos.receiver import Arrival
from fleek.domain.request_rate import request_rate
from fleek.schemas.events import PUBLIC

HIDDEN: Final = frozenset({404})  # the response for foreign resources
REUSED: Final = 422
ALONE: Final = "rate_limits_not_shared"

Owed = tuple[UUID, int, UUID | None]
"""A job, the number of an event, and the endpoint that it is owed to; None: the job's own address."""


def check(evidence: Evidence) -> list[str]:
    """Return every violation, or nothing."""
    checks: tuple[Callable[[Evidence], Iterator[str]], ...] = (
        _webhooks_arrive,
        _webhooks_are_true,
        _keys_are_exact,
        _keys_and_jobs_agree,
        _tenants_are_apart,
        _streams_are_whole,
        _limits_hold,
    )
    return [f"{one.__name__[1:]}: {found}" for one in checks for found in one(evidence)]


def said(evidence: Evidence, op: str, phase: str) -> Iterator[Mapping[str, Any]]:
    """Yield the clients' records of one kind of call with this result."""
    for row in evidence.history:
        if row["op"] == op and row["phase"] == phase:
            yield row


def _webhooks_arrive(evidence: Evidence) -> Iterator[str]:
    """I6: each event has one delivery per receiver, from the commit of its job, and is received."""
    taken = {arrival.id for arrival in evidence.received if arrival.taken}
    owed: dict[Owed, Delivery] = {}
    for delivery in evidence.deliveries:
        place = (delivery.job_id, delivery.seq, delivery.endpoint_id)
        if place in owed:
            yield f"{delivery.id} and {owed[place].id} are owed for one event"
        owed[place] = delivery
    for place, kind in _wanted(evidence):
        found = owed.get(place)
        if found is None or found.type != kind:
            yield f"{kind} of {place[0]} has no delivery"
        elif found.id not in taken or found.state != "delivered":
            yield f"{kind} of {place[0]} did not arrive: it is {found.state}"


def _wanted(evidence: Evidence) -> Iterator[tuple[Owed, str]]:
    """Yield the expected deliveries: event, receiver and type."""
    for job in evidence.jobs.values():
        events = evidence.events.get(job.id, ())
        public = [(event.seq, str(PUBLIC[event.type])) for event in events if event.type in PUBLIC]
        for seq, kind in public:
            if job.webhook is not None and kind in job.webhook[1]:
                yield (job.id, seq, None), kind
            for endpoint in evidence.endpoints:
                if endpoint.tenant_id == job.tenant_id and kind in endpoint.events:
                    yield (job.id, seq, endpoint.id), kind


def _webhooks_are_true(evidence: Evidence) -> Iterator[str]:
    """I6: signed, with constant bytes, in the order of events, and at the right receiver."""
    deliveries = {delivery.id: delivery for delivery in evidence.deliveries}
    urls = {endpoint.id: endpoint.url for endpoint in evidence.endpoints}
    earlier: dict[tuple[UUID, UUID | None], list[Delivery]] = defaultdict(list)
    for delivery in evidence.deliveries:
        earlier[delivery.job_id, delivery.endpoint_id].append(delivery)
    taken: set[str] = set()
    for arrival in evidence.received:
        owed = deliveries.get(arrival.id)
        if owed is None:
            yield f"{arrival.id} arrived without a delivery"
            continue
        if arrival.body != owed.body:
            yield f"{arrival.id} came with other bytes"
        if not _is_signed(arrival, evidence.secrets.get(arrival.path, ())):
            yield f"{arrival.id} was not signed"
        url = owed.url if owed.endpoint_id is None else urls.get(owed.endpoint_id)
        if url is None or url.rpartition("/")[2] != arrival.path:
            yield f"{arrival.id} came to {arrival.path}"
        before = earlier[owed.job_id, owed.endpoint_id]
        if {one.id for one in before if one.seq < owed.seq} - taken:
            yield f"{owed.type} of {owed.job_id} came before what precedes it was taken"
        taken |= {arrival.id} if arrival.taken else set()


def _is_signed(arrival: Arrival, secrets: Sequence[str]) -> bool:
    at = datetime.fromtimestamp(int(arrival.headers["webhook-timestamp"]), UTC)
    given = arrival.headers["webhook-signature"].split()
    return any(
        Webhook(secret).sign(arrival.id, at, arrival.body.decode()) in given for secret in secrets
    )


def _keys_are_exact(evidence: Evidence) -> Iterator[str]:
    """I8: one key of a tenant is one job, even after a kill between commit and response."""
    stored = {(key.tenant_id, key.key): key.job_id for key in evidence.keys}
    for row in (*said(evidence, "submit", "ok"), *said(evidence, "repeat", "ok")):
        place = (row["tenant"], row["key"])
        if stored.get(place) != UUID(row["job"]):
            yield f"{place} was answered with {row['job']}, and its job is {stored.get(place)}"
        if row["op"] == "repeat" and not row.get("replayed"):
            yield f"{place} was repeated, and the answer was not that of a repetition"
    for row in said(evidence, "misuse", "ok"):
        if row["status"] != REUSED:
            yield f"another request with the key {row['key']} was answered {row['status']}"


def _keys_and_jobs_agree(evidence: Evidence) -> Iterator[str]:
    """I8: each key belongs to the job that was requested with it, and each such job has its key."""
    submits = [row for row in evidence.history if row["op"] == "submit"]
    asked = {(row["tenant"], row["key"]): row["prompt"] for row in submits}
    for key in evidence.keys:
        job = evidence.jobs.get(key.job_id)
        wanted = asked.get((key.tenant_id, key.key))
        if job is None or job.prompt != wanted or job.tenant_id != key.tenant_id:
            yield f"{key.key} of {key.tenant_id} stands for {key.job_id}, which is another's"
    keys = Counter(key.job_id for key in evidence.keys)
    prompts = set(asked.values())
    for job in evidence.jobs.values():
        if job.prompt in prompts and keys[job.id] != 1:
            yield f"{job.id} has {keys[job.id]} keys"


def _tenants_are_apart(evidence: Evidence) -> Iterator[str]:
    """I9: jobs belong to their tenant, and foreign ones look like missing ones."""
    for row in said(evidence, "peek", "ok"):
        if row["status"] not in HIDDEN:
            yield f"{row['tenant']} asked for {row['job']} of another and got {row['status']}"
    for op in ("submit", "repeat", "cancel", "collect", "list"):
        for row in said(evidence, op, "ok"):
            for job_id in row["jobs"] if op == "list" else [row["job"]]:
                if not _is_of(evidence, UUID(job_id), row["tenant"]):
                    yield f"{op} of {row['tenant']} was answered with {job_id} of another"
    owners = {endpoint.id: endpoint.tenant_id for endpoint in evidence.endpoints}
    for delivery in evidence.deliveries:
        owner = delivery.tenant_id
        if delivery.endpoint_id is not None:
            owner = owners.get(delivery.endpoint_id, "unknown")
        if not _is_of(evidence, delivery.job_id, owner):
            yield f"{delivery.id} about {delivery.job_id} goes to {owner}"


def _is_of(evidence: Evidence, job_id: UUID, tenant_id: str) -> bool:
    """Whether a job belongs to a tenant, by other evidence if the job was removed."""
    job = evidence.jobs.get(job_id)
    return job is None or job.tenant_id == tenant_id


def _streams_are_whole(evidence: Evidence) -> Iterator[str]:
    """I10: a tenant's stream contains each event of its jobs once and in order, and no other."""
    for tenant_id, events in evidence.followed.items():
        if any(event.type == "reset" for event in events):
            yield f"the stream of {tenant_id} was begun anew"
        came: dict[UUID, list[Followed]] = defaultdict(list)
        for event in events:
            if event.job_id is not None:
                came[event.job_id].append(event)
        jobs = {job.id: job for job in evidence.jobs.values() if job.tenant_id == tenant_id}
        for job_id in came.keys() - jobs.keys():
            yield f"{tenant_id} was sent events of {job_id}, which is not its job"
        for job in jobs.values():
            yield from _followed_whole(evidence, job, came[job.id])


def _followed_whole(evidence: Evidence, job: Job, came: Sequence[Followed]) -> Iterator[str]:
    lines = [event for event in evidence.events.get(job.id, ()) if event.type in PUBLIC]
    wanted = [(line.seq, str(PUBLIC[line.type])) for line in lines]
    for want, got in zip_longest(wanted, [(event.seq, event.type) for event in came]):
        if want != got:
            yield f"of {job.id} {want} was to come, and {got} came"
            return


def _limits_hold(evidence: Evidence) -> Iterator[str]:
    """I11: no tenant exceeded its limit of unfinished jobs, and no key its rate."""
    for tenant_id, most in evidence.crowded.items():
        if evidence.max_live is not None and most > evidence.max_live:
            yield f"{tenant_id} had {most} jobs of {evidence.max_live} at once"
    if evidence.rate_per_minute:
        rate = request_rate(evidence.rate_per_minute)
        alone = sum(
            row["event"] == ALONE for row in evidence.logs
        )  # then a process starts a new count
        most_at_once = rate.burst * (1 + alone) + rate.lease
        over = excess(evidence.flood, per_second=rate.per_minute / 60)
        if over > most_at_once:
            yield f"{over:.1f} requests of {most_at_once} were served beyond the rate of a key"
