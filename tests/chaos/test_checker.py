"""The checker is tested itself: it accepts consistent evidence, and detects every change of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from chaos.checker import Terms, check
from chaos.evidence import (
    Attempt,
    Charge,
    Delivery,
    Endpoint,
    Event,
    Evidence,
    Job,
    Key,
    Media,
    Sale,
    Spent,
)
from chaos.flood import Answered
from chaos.follower import Followed
from chaos.money import money
from chaos.receiver import Arrival
from fleek.engine import signing

PAINTED, STOPPED = UUID(int=1), UUID(int=2)
FIRST, SECOND, UNKNOWN = UUID(int=11), UUID(int=12), UUID(int=13)
KEY = "media/1.webp"
SHA = "ab" * 32
NORTH, SOUTH = "north", "south"
NORTHERN, SOUTHERN = UUID(int=21), UUID(int=22)
SECRET = signing.new_secret()
ANNOUNCED = frozenset({"job.created", "job.completed", "job.cancelled"})
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def job(job_id: UUID, status: str, **fields: Any) -> Job:
    """Return a job that has had one attempt."""
    facts: dict[str, Any] = {
        "prompt": f"prompt {job_id.int}",
        "attempt": 1,
        "max_attempts": 4,
        "attempt_id": UUID(int=job_id.int + 10),
        "prediction_id": f"p{job_id.int}",
        "error_code": None,
        "version": 2,
        "tenant_id": NORTH if job_id == PAINTED else SOUTH,
        "webhook": None,
    }
    return Job(id=job_id, status=status, **{**facts, **fields})


def story() -> Evidence:
    """Return the evidence of a run with one completed and one cancelled job."""
    jobs = {PAINTED: job(PAINTED, "completed"), STOPPED: job(STOPPED, "cancelled")}
    attempts = [
        Attempt(id=FIRST, job_id=PAINTED, n=1, prediction_id="p1", verdict="succeeded", cancel_owed=False, metrics={"predict_time": 1.2}),
        Attempt(id=SECOND, job_id=STOPPED, n=1, prediction_id="p2", verdict="cancelled", cancel_owed=False, metrics={}),
    ]  # fmt: skip
    events = {
        one.id: [
            Event(job_id=one.id, seq=1, type="submitted", data={}),
            Event(job_id=one.id, seq=2, type=one.status, data={}),
        ]
        for one in jobs.values()
    }
    history = [
        *called(jobs[PAINTED], "submit", status=201),
        *called(jobs[PAINTED], "repeat", status=201, replayed=True),
        *called(jobs[PAINTED], "misuse", status=422),
        *called(jobs[PAINTED], "peek", status=404, tenant=SOUTH),
        *called(jobs[STOPPED], "submit", status=201),
        *called(jobs[STOPPED], "cancel", status=200),
        *called(jobs[STOPPED], "list", status=200, jobs=[str(STOPPED)]),
    ]
    deliveries = [a_delivery(one, seq, kind) for one in jobs.values() for seq, kind in public(one)]
    return Evidence(
        jobs=jobs,
        attempts=attempts,
        events=events,
        media={
            PAINTED: [
                Media(job_id=PAINTED, attempt_id=FIRST, index=0, key=KEY, sha256=SHA, size_bytes=3)
            ]
        },
        tallies={"completed": 1, "cancelled": 1, "pending": 0},
        sales=[
            Sale(id="p1", attempt_id=FIRST, prompt="prompt 1", begun=1, ended=2, heading="succeeded", billed=1, micros=4200),
            Sale(id="p2", attempt_id=SECOND, prompt="prompt 2", begun=1, ended=2, heading="canceled_after_start", billed=1, micros=3100),
        ],
        files={KEY: (3, SHA)},
        truths={("p1", 0): SHA},
        tokens=frozenset({"t"}),
        accounts=1,
        leaks=0,
        orphans=frozenset(),
        logs=[],
        history=history,
        webhooks=[],
        strikes={},
        deliveries=deliveries,
        endpoints=[
            Endpoint(id=NORTHERN, tenant_id=NORTH, url="http://there/north", events=ANNOUNCED),
            Endpoint(id=SOUTHERN, tenant_id=SOUTH, url="http://there/south", events=ANNOUNCED),
        ],
        received=[
            an_arrival(deliveries[0], manner="cut"),
            *map(an_arrival, (*deliveries, deliveries[1])),
        ],
        secrets={NORTH: [SECRET], SOUTH: [SECRET]},
        keys=[Key(tenant_id=one.tenant_id, key="1", job_id=one.id) for one in jobs.values()],
        followed={
            one.tenant_id: [Followed(kind, one.id, seq) for seq, kind in public(one)]
            for one in jobs.values()
        },
        charges=[a_charge(PAINTED, 4200, tenant_id=NORTH), a_charge(STOPPED, 4000, tenant_id=SOUTH)],
        spend=[
            Spent(tenant_id="", start="", reserved=0, spent=8200),
            Spent(tenant_id=SOUTH, start="2026-11", reserved=0, spent=4000),
        ],
        costs={PAINTED: 4200, STOPPED: 4000},
        crowded={NORTH: 2},
        max_live=2,
        rate_per_minute=60,
        flood=[Answered(status, at, at + 0.1) for status in (200, 429) for at in range(30)],
    )  # fmt: skip


def a_charge(job_id: UUID, actual: int, **fields: Any) -> Charge:
    """Return the charge of a job's first attempt, which was expected to cost 4,000 micros."""
    facts: dict[str, Any] = {"number": 1, "day": "2026-11-29", "estimate": 4000, "state": "spent"}
    return Charge(job_id=job_id, actual=actual, **{**facts, **fields})


def with_charge(evidence: Evidence, **fields: Any) -> Evidence:
    """Change the first charge."""
    first, *others = evidence.charges
    return replace(evidence, charges=[replace(first, **fields), *others])


def public(one: Job) -> list[tuple[int, str]]:
    """Return the events of a job, as its tenant sees them."""
    return [(1, "job.created"), (2, f"job.{one.status}")]


def called(one: Job, op: str, **facts: Any) -> list[dict[str, Any]]:
    """Return the lines about a call that was answered."""
    known = {"op": op, "job": str(one.id), "tenant": one.tenant_id, "key": "1"}
    row = {**known, "prompt": one.prompt, **facts}
    return [{**row, "phase": "invoke"}, {**row, "phase": "ok"}]


def a_delivery(one: Job, seq: int, kind: str) -> Delivery:
    """Return the delivery of an event to a job's tenant."""
    return Delivery(
        id=f"msg_{one.id.int}{seq}",
        tenant_id=one.tenant_id,
        endpoint_id=NORTHERN if one.tenant_id == NORTH else SOUTHERN,
        url=None,
        job_id=one.id,
        seq=seq,
        type=kind,
        state="delivered",
        body=b"{}",
    )


def an_arrival(delivery: Delivery, **changes: Any) -> Arrival:
    """Return a webhook as it came in."""
    headers = signing.headers(delivery.id, delivery.body, [SECRET], now=NOW)
    arrival = Arrival(delivery.tenant_id, dict(headers), delivery.body, "well")
    return replace(arrival, **changes)


def with_webhooks(evidence: Evidence, *numbers: int) -> Evidence:
    """Change the received webhooks, or their order."""
    return replace(evidence, received=[an_arrival(evidence.deliveries[n]) for n in numbers])


def with_arrival(evidence: Evidence, **changes: Any) -> Evidence:
    """Add a repetition of the second webhook."""
    again = an_arrival(evidence.deliveries[1], **changes)
    return replace(evidence, received=[*evidence.received, again])


def with_delivery(evidence: Evidence, **changes: Any) -> Evidence:
    """Change the first delivery."""
    first, *others = evidence.deliveries
    return replace(evidence, deliveries=[replace(first, **changes), *others])


def with_call(evidence: Evidence, op: str, **changes: Any) -> Evidence:
    """Change the response to a call."""
    history = [{**row, **changes} if row["op"] == op else row for row in evidence.history]
    return replace(evidence, history=history)


def with_followed(evidence: Evidence, *events: Followed) -> Evidence:
    """Change the stream of the first tenant."""
    return replace(evidence, followed={**evidence.followed, NORTH: events})


def with_job(evidence: Evidence, job_id: UUID, **fields: Any) -> Evidence:
    """Change the row of a job."""
    jobs = {**evidence.jobs, job_id: replace(evidence.jobs[job_id], **fields)}
    return replace(evidence, jobs=jobs)


def with_attempt(evidence: Evidence, **fields: Any) -> Evidence:
    """Change the first attempt."""
    first, *others = evidence.attempts
    return replace(evidence, attempts=[replace(first, **fields), *others])


def with_sale(evidence: Evidence, **fields: Any) -> Evidence:
    """Add a prediction to the ledger."""
    another = replace(evidence.sales[0], id="p3", begun=3, ended=4, **fields)
    return replace(evidence, sales=[*evidence.sales, another])


FALSIFICATIONS: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "an acknowledged job is gone": (
        lambda e: replace(e, jobs={PAINTED: e.jobs[PAINTED]}, tallies={"completed": 1}),
        "is gone",
    ),
    "a job without a request": (
        lambda e: with_job(e, PAINTED, prompt="another"),
        "not what was asked for",
    ),
    "a job has not ended": (lambda e: with_job(e, PAINTED, status="processing"), "is processing"),
    "a job ended twice": (
        lambda e: replace(
            e,
            events={**e.events, PAINTED: [*e.events[PAINTED], replace(e.events[PAINTED][1], seq=3)]},
        ),
        "its history has",
    ),
    "a line of history is missing": (lambda e: with_job(e, PAINTED, version=3), "a gap"),
    "counters are wrong": (lambda e: replace(e, tallies={"completed": 2}), "the counters say"),
    "a failure without a reason": (
        lambda e: with_job(e, PAINTED, status="failed", error_code="internal_error"),
        "failed with internal_error",
    ),
    "an attempt with two predictions": (with_sale, "created 2 predictions"),
    "an unknown prediction": (lambda e: with_sale(e, attempt_id=SECOND), "no attempt has p3"),
    "two predictions at once": (
        lambda e: replace(e, sales=[*e.sales, replace(e.sales[0], id="p3", begun=1.5)]),
        "running at once",
    ),
    "a prediction still runs": (
        lambda e: replace(e, sales=[replace(one, ended=None, heading=None) for one in e.sales]),
        "p2 still runs",
    ),
    "an orphan": (lambda e: replace(e, orphans=frozenset({"p1"})), "orphans"),
    "an attempt is not settled": (lambda e: with_attempt(e, verdict=None), "never settled"),
    "another's prediction": (lambda e: with_attempt(e, prediction_id="p2"), "was created for"),
    "a prediction missing in the ledger": (lambda e: with_attempt(e, prediction_id="p9"), "not in the ledger"),
    "a verdict that is not true": (lambda e: with_attempt(e, verdict="failed"), "is failed, p1 succeeded"),
    "too many attempts": (lambda e: with_job(e, PAINTED, attempt=5), "made 5 of 4"),
    "a file is missing": (lambda e: replace(e, files={}), "is missing"),
    "a file is damaged": (lambda e: replace(e, files={KEY: (3, "cd" * 32)}), "its row says"),
    "a file is another's": (lambda e: replace(e, truths={("p1", 0): "cd" * 32}), "is not what p1 made"),
    "a signed file is another's": (lambda e: replace(e, bare={KEY: "cd" * 32}), "is not what p1 made"),
    "a small picture of nothing": (
        lambda e: replace(e, files={**e.files, "media/other.png.small-320.webp": (3, SHA)}),
        "shows a file that no job has",
    ),
    "a completed job without files": (lambda e: replace(e, media={}), "and 0 files"),
    "a cancelled job with files": (
        lambda e: replace(e, media={**e.media, STOPPED: e.media[PAINTED]}),
        "is cancelled and has files",
    ),
    "a cancel that won and did not": (
        lambda e: with_job(e, STOPPED, status="completed"),
        "was answered 200",
    ),
    "cancelled without a request": (
        lambda e: replace(e, history=[row for row in e.history if row["op"] != "cancel"]),
        "cancelled without a request",
    ),
    "a bill without a reason": (
        lambda e: replace(e, sales=[replace(e.sales[0], billed=2), e.sales[1]]),
        "not everything is explained",
    ),
    "a result that is paid for and lost": (
        lambda e: with_job(e, PAINTED, status="failed", error_code="output_expired"),
        "results that are lost",
    ),
    "stopped for no reason": (
        lambda e: replace(e, attempts=[e.attempts[0], replace(e.attempts[1], verdict="failed")]),
        "stopped for no reason",
    ),
    "a webhook that did not come": (
        lambda e: with_webhooks(e, 0, 2, 3),
        "job.completed of 00000000-0000-0000-0000-000000000001 did not arrive",
    ),
    "a webhook that was never taken": (
        lambda e: replace(e, received=[replace(one, manner="refused") for one in e.received]),
        "did not arrive",
    ),
    "a webhook that waits": (lambda e: with_delivery(e, state="pending"), "it is pending"),
    "an event without a delivery": (
        lambda e: replace(e, deliveries=e.deliveries[1:], received=e.received[2:]),
        "job.created of 00000000-0000-0000-0000-000000000001 has no delivery",
    ),
    "two webhooks for an event": (
        lambda e: replace(e, deliveries=[*e.deliveries, replace(e.deliveries[0], id="msg_9")]),
        "msg_9 and msg_11 are owed for one event",
    ),
    "a webhook with other bytes": (
        lambda e: with_arrival(e, body=b"[]"), "msg_12 came with other bytes",
    ),
    "a webhook of another signer": (
        lambda e: replace(e, secrets={NORTH: [signing.new_secret()]}), "msg_11 was not signed",
    ),
    "a webhook without a delivery": (
        lambda e: replace(e, received=[*e.received, an_arrival(replace(e.deliveries[0], id="msg_9"))]),
        "msg_9 arrived without a delivery",
    ),
    "webhooks in another order": (
        lambda e: with_webhooks(e, 1, 0, 2, 3),
        "came before what precedes it was taken",
    ),
    "a webhook after one that failed": (
        lambda e: replace(e, received=[replace(e.received[0], manner="cut"), *e.received[2:]]),
        "job.completed of 00000000-0000-0000-0000-000000000001 came before what precedes it",
    ),
    "a webhook at another's address": (
        lambda e: with_arrival(e, path=SOUTH), "msg_12 came to south",
    ),
    "a key of two jobs": (
        lambda e: with_call(e, "repeat", job=str(STOPPED)),
        "('north', '1') was answered with 00000000-0000-0000-0000-000000000002",
    ),
    "a key that was not kept": (lambda e: replace(e, keys=e.keys[1:]), "and its job is None"),
    "a repetition that looks like a new request": (
        lambda e: with_call(e, "repeat", replayed=False), "was not that of a repetition",
    ),
    "a key for two requests": (
        lambda e: with_call(e, "misuse", status=201), "another request with the key 1",
    ),
    "a key of another request": (
        lambda e: replace(e, keys=[*e.keys, Key(tenant_id=NORTH, key="2", job_id=PAINTED)]),
        "2 of north stands for 00000000-0000-0000-0000-000000000001",
    ),
    "a job with two keys": (
        lambda e: replace(e, keys=[*e.keys, Key(tenant_id=NORTH, key="2", job_id=PAINTED)]),
        "00000000-0000-0000-0000-000000000001 has 2 keys",
    ),
    "a job that another tenant sees": (
        lambda e: with_call(e, "peek", status=200), "south asked for",
    ),
    "a job that another tenant can read": (
        lambda e: with_call(e, "peek", status=409), "south asked for",
    ),
    "a list with a job of another tenant": (
        lambda e: with_call(e, "list", jobs=[str(STOPPED), str(PAINTED)]),
        "list of south was answered with 00000000-0000-0000-0000-000000000001",
    ),
    "a key that leads to another tenant": (
        lambda e: with_call(e, "submit", job=str(PAINTED)),
        "submit of south was answered with 00000000-0000-0000-0000-000000000001",
    ),
    "a webhook for another tenant": (
        lambda e: with_delivery(e, endpoint_id=SOUTHERN), "goes to south",
    ),
    "an event that did not come": (
        lambda e: with_followed(e, Followed("job.created", PAINTED, 1)), "and None came",
    ),
    "an event that came twice": (
        lambda e: with_followed(e, *(2 * [e.followed[NORTH][0]]), e.followed[NORTH][1]),
        "(1, 'job.created') came",
    ),
    "events in another order": (
        lambda e: with_followed(e, *reversed(e.followed[NORTH])), "(2, 'job.completed') came",
    ),
    "events of another tenant": (
        lambda e: with_followed(e, *e.followed[NORTH], *e.followed[SOUTH]), "which is not its job",
    ),
    "a stream that began anew": (
        lambda e: with_followed(e, *e.followed[NORTH], Followed("reset")), "was begun anew",
    ),
    "more jobs than there may be": (
        lambda e: replace(e, crowded={NORTH: 3}), "north had 3 jobs of 2 at once",
    ),
    "more requests than a key may send": (
        lambda e: replace(e, flood=[Answered(200, at, at) for at in (1.0, *[2.0] * 13)]),
        "13.0 requests of 12 were served",
    ),
    "money that stays reserved": (
        lambda e: with_charge(e, state="reserved"), "is still reserved",
    ),
    "a budget that stays reserved": (
        lambda e: replace(e, spend=[replace(e.spend[0], reserved=1)]), "everybody has 1 reserved",
    ),
    "an attempt without a charge": (
        lambda e: replace(e, charges=e.charges[1:]), "its charge None",
    ),
    "a paid attempt whose charge was released": (
        lambda e: with_charge(e, state="released"), "its charge Charge",
    ),
    "a charge without an attempt": (
        lambda e: replace(e, charges=[*e.charges, a_charge(PAINTED, 1, tenant_id=NORTH, number=2)]),
        "is spent, without an attempt",
    ),
    "a job that costs something else": (
        lambda e: replace(e, costs={PAINTED: 4201}), "has cost 4201, and its charges 4200",
    ),
    "a charge that is a micro too high": (
        lambda e: with_charge(e, actual=4201), "was charged 4201 (estimated 4000)",
    ),
    "an estimate although the answer has a price": (
        lambda e: with_charge(e, actual=4000), "was charged 4000",
    ),
    "an unknown price that is not the estimate": (
        lambda e: replace(e, charges=[e.charges[0], replace(e.charges[1], actual=3999)]),
        "was charged 3999",
    ),
    "a budget that is a micro off": (
        lambda e: replace(e, spend=[e.spend[0], replace(e.spend[1], spent=4001)]),
        "south has spent 4001",
    ),
    "a sum that is not the ledger's": (
        lambda e: replace(e, spend=[replace(e.spend[0], spent=8199)]), "the service has spent 8199",
    ),
    "the token was sent to strangers": (lambda e: replace(e, leaks=1), "1 sent to the host"),
}  # fmt: skip


def test_consistent_evidence_has_no_violations() -> None:
    """Otherwise no violation would mean anything."""
    evidence = story()

    assert check(evidence, Terms()) == []
    assert money(evidence).twice == 0


@pytest.mark.parametrize("falsification", FALSIFICATIONS)
def test_each_falsification_is_detected(falsification: str) -> None:
    """A checker that misses violations proves nothing."""
    tell, found = FALSIFICATIONS[falsification]

    complaints = check(tell(story()), Terms())

    assert any(found in complaint for complaint in complaints), complaints


def test_money_spent_twice_is_counted() -> None:
    """Of two successful predictions for one job, the second is a loss."""
    again = replace(story().sales[0], id="p3", begun=3, ended=4)
    evidence = replace(story(), sales=[*story().sales, again])

    assert money(evidence).twice == 1
    assert any("paid twice for 1" in one for one in check(evidence, Terms()))


def test_money_is_counted_without_callbacks() -> None:
    """Predictions without a token are assigned by their prompt."""
    sales = [replace(sale, attempt_id=None) for sale in story().sales]
    again = replace(sales[0], id="p3", begun=3, ended=4)

    once = check(replace(story(), sales=sales), Terms())
    twice = money(replace(story(), sales=[*sales, again])).twice

    assert (once, twice) == ([], 1)


def test_a_vanished_prediction_is_no_loss_of_the_service() -> None:
    """It was billed, and has vanished at the provider."""
    gone = replace(story().sales[0], vanished=True)
    evidence = with_job(story(), PAINTED, status="failed", error_code="prediction_failed")

    kept = money(evidence)
    vanished = money(replace(evidence, sales=[gone, story().sales[1]]))

    assert (kept.lost, kept.unused, vanished.lost, vanished.unused) == (1, 0, 0, 1)


def test_a_second_start_after_an_unfindable_prediction_is_excused() -> None:
    """It vanished before it was found, and each callback was refused; one that was seen counts."""
    again = replace(story().sales[0], id="p3", attempt_id=UNKNOWN, ended=4, vanished=True)
    attempt = replace(
        story().attempts[0], id=UNKNOWN, n=2, prediction_id=None, verdict="not_bought"
    )
    charge = replace(story().charges[0], number=2, actual=None, state="released")

    def complaints(sale: Sale) -> tuple[list[str], int]:
        evidence = replace(
            story(),
            sales=[sale, *story().sales],
            attempts=[*story().attempts, attempt],
            charges=[*story().charges, charge],
        )
        return check(evidence, Terms()), money(evidence).twice

    assert complaints(replace(again, begun=0.5, unshown=True)) == ([], 0)
    seen, twice = complaints(replace(again, begun=0.5))
    assert twice == 1
    assert any("paid twice for 1" in one for one in seen)
    assert any("no attempt has p3" in one for one in seen)
    assert any("running at once" in one for one in seen)


def test_a_repeated_start_of_a_run_without_a_trace_is_excused() -> None:
    """What was removed from a queue before it began is nowhere, and cost nothing."""
    removed = replace(story().sales[0], begun=0, ended=0.5, heading="aborted", billed=0, micros=0)
    evidence = replace(story(), sales=[removed, *story().sales])
    paid = replace(evidence, sales=[replace(removed, billed=1), *story().sales])

    def found(evidence: Evidence, *, repeats: bool) -> bool:
        complaints = check(evidence, Terms(repeats=repeats))
        return any("created 2 predictions" in one for one in complaints)

    assert not found(evidence, repeats=True)
    assert found(evidence, repeats=False)
    assert found(paid, repeats=True)


@pytest.mark.parametrize(("kind", "excused"), [("repeating", True), ("starting", False)])
def test_only_a_start_that_is_repeated_follows_the_end_of_a_job(
    kind: str, *, excused: bool
) -> None:
    """Its run has to be found, to be cancelled."""
    job = story().jobs[STOPPED]
    late = Event(job_id=STOPPED, seq=job.version + 1, type=kind, data={})
    events = {**story().events, STOPPED: [*story().events[STOPPED], late]}
    evidence = with_job(replace(story(), events=events), STOPPED, version=job.version + 1)

    complaints = [one for one in check(evidence, Terms(repeats=True)) if "ended_once" in one]

    assert (complaints == []) == excused


def test_a_falsely_confirmed_cancel_is_excused() -> None:
    """The provider reported the end of the prediction, so its further cost is excused."""
    evidence = with_attempt(story(), verdict="cancelled")
    denied = replace(evidence.sales[0], denied=True)

    believed = check(replace(evidence, sales=[denied, evidence.sales[1]]), Terms())

    assert any("p1 succeeded" in one for one in check(evidence, Terms()))
    assert not any("p1 succeeded" in one for one in believed)


def test_a_prediction_may_be_stopped_by_its_own_limit() -> None:
    """Replicate ends one that overruns, maybe before our cancel: the attempt has failed then."""
    evidence = with_attempt(story(), verdict="failed")
    stopped = replace(evidence.sales[0], heading="canceled_after_start")
    overrun = replace(stopped, overran=True)

    def complaints(sale: Sale) -> list[str]:
        found = check(replace(evidence, sales=[sale, evidence.sales[1]]), Terms())
        return [one for one in found if "p1 canceled" in one or "p1 was stopped" in one]

    assert len(complaints(stopped)) == 2
    assert complaints(overrun) == []


def test_a_quiet_run_must_complete_everything() -> None:
    """If only processes and the network fail, every job has to complete."""
    complaints = check(story(), Terms(exact=True))

    assert any("nothing was wrong with it" in one for one in complaints)
