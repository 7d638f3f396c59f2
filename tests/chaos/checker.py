"""Checks a run: the invariants I1-I5 and the ledger's equations, from evidence alone.

Further promises to callers are checked in `chaos.promises`.

Each check yields one sentence per violation, with the ids to investigate it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Final
from uuid import UUID

from chaos import budgets, promises
from chaos.evidence import Attempt, Event, Evidence, Job, Sale
from chaos.money import money, sales_by_job
from chaos.promises import said
from chaos.tenants import ENDS
from fleek.domain.media import original_key

VERDICTS: Final = {  # what the ledger must contain for each verdict
    "succeeded": {"succeeded"},
    "failed": {"failed_after_start", "failed_before_start", "aborted"},
    "cancelled": {
        "canceled_after_start",
        "canceled_before_start",
        "failed_after_start",
        "failed_before_start",
        "aborted",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the injected faults excuse."""

    codes: frozenset[str] = frozenset()  # errors that a job may have failed with
    orphans: bool = False  # whether a process was frozen for longer than its lease
    unknown: bool = False  # whether an attempt may be lost: nothing but a callback finds it
    repeats: bool = False  # a lost start is made again under its id, until the run leaves a trace
    exact: bool = False  # only processes and network failed: every job completes and is paid once


def check(evidence: Evidence, terms: Terms) -> list[str]:
    """Return every violation, or nothing."""
    checks: tuple[Callable[[Evidence, Terms], Iterator[str]], ...] = (
        _accepted_exists,
        _ended_once,
        _created_once,
        _bound_to_its_own,
        _bytes_are_true,
        _thumbnails_have_files,
        _cancels_are_true,
        _money_is_explained,
    )
    found = [f"{one.__name__[1:]}: {found}" for one in checks for found in one(evidence, terms)]
    return found + promises.check(evidence) + budgets.check(evidence)


def _accepted_exists(evidence: Evidence, _: Terms) -> Iterator[str]:
    """I1: acknowledged jobs exist, and existing jobs were requested, once."""
    submits = [row for row in evidence.history if row["op"] == "submit"]
    invoked = {row["prompt"] for row in submits}
    invoked |= {row["prompt"] for row in evidence.history if row["op"] == "batch"}
    refused = {row["prompt"] for row in submits if row["phase"] == "fail"}
    refused -= {row["prompt"] for row in submits if row["phase"] in {"ok", "info"}}
    for row in said(evidence, "submit", "ok"):
        job = evidence.jobs.get(UUID(row["job"]))
        if job is None:
            yield f"{row['job']} was acknowledged and is gone"
        elif job.prompt != row["prompt"]:
            yield f"{job.id} is not what was asked for"
    for prompt, number in Counter(job.prompt for job in evidence.jobs.values()).items():
        if number > 1 or prompt not in invoked or prompt in refused:
            yield f"{number} jobs for {prompt!r}"


def _ended_once(evidence: Evidence, terms: Terms) -> Iterator[str]:
    """I2: one terminal state, reached once, as the last line of a history without gaps."""
    for job in evidence.jobs.values():
        events = evidence.events.get(job.id, ())
        ends = [event.type for event in _lasting(events) if event.type in ENDS]
        if job.status not in ENDS:
            yield f"{job.id} is {job.status}"
        elif ends != [job.status] or _last(events, terms) != job.status:
            yield f"{job.id} is {job.status} and its history has {ends}"
        if [event.seq for event in events] != list(range(1, job.version + 1)):
            yield f"{job.id} has a gap in its history"
        if job.status == "failed" and job.error_code not in terms.codes:
            yield f"{job.id} failed with {job.error_code}: {job.prompt}"
        if terms.exact and job.status != "completed":
            yield f"{job.id} is {job.status}, and nothing was wrong with it"
    counted = Counter(job.status for job in evidence.jobs.values())
    if {status: number for status, number in evidence.tallies.items() if number} != counted:
        yield f"the counters say {evidence.tallies}, there are {counted}"


def _last(events: Sequence[Event], terms: Terms) -> str:
    """Return the last event, except for changes that are possible at any time.

    A start is made again also after the end of its job: how else is its run found, and cancelled?
    """
    anytime = {"updated", "repeating", "released"} if terms.repeats else {"updated"}
    return [event.type for event in events if event.type not in anytime][-1]


def _lasting(events: Sequence[Event]) -> Iterator[Event]:
    """Leave out failures followed by a new collection of the paid result."""
    for event, following in zip_longest(events, events[1:]):
        if following is None or following.type != "recollecting":
            yield event


def _created_once(evidence: Evidence, terms: Terms) -> Iterator[str]:
    """I3: one prediction per attempt at most, one of a job at a time, attempts within bounds.

    Whatever the providers: they share the ledger. Where starts are repeated, a run that was removed
    before it began is not found again, and costs nothing.
    """
    counted = (
        sale.attempt_id
        for sale in evidence.sales
        if not (terms.repeats and sale.heading == "aborted" and not sale.billed)
    )
    for attempt_id, number in Counter(counted).items():
        if attempt_id is not None and number > 1:
            yield f"attempt {attempt_id} created {number} predictions"
    for job_id, sales in sales_by_job(evidence).items():
        for one, next_one in pairwise(sorted(sales, key=lambda sale: sale.begun)):
            alive = one.ended is None or one.ended > next_one.begun
            excused = {one.id, next_one.id} & evidence.orphans or one.id in evidence.unfindable
            if alive and not excused:
                yield f"job {job_id} had {one.id} and {next_one.id} running at once"
    for job in evidence.jobs.values():
        if job.attempt > job.max_attempts:
            yield f"job {job.id} made {job.attempt} of {job.max_attempts} attempts"
    if evidence.orphans and not terms.orphans:
        yield f"orphans: {sorted(evidence.orphans)}"


def _bound_to_its_own(evidence: Evidence, terms: Terms) -> Iterator[str]:
    """E1: ledger and attempts contain the same predictions, with the same ends."""
    sales = {sale.id: sale for sale in evidence.sales}
    bound = {attempt.prediction_id: attempt for attempt in evidence.attempts}
    for sale in evidence.sales:
        lost = (terms.unknown and sale.unheard) or sale.id in evidence.unfindable
        if sale.id not in bound and sale.id not in evidence.orphans and not lost:
            yield f"no attempt has {sale.id}, created for attempt {sale.attempt_id}"
        if sale.id in evidence.orphans and sale.ended is None:
            yield f"orphan {sale.id} still runs"
    for attempt in evidence.attempts:
        if attempt.verdict is None:
            yield f"attempt {attempt.id} of job {attempt.job_id} was never settled"
        elif attempt.prediction_id is None:
            if attempt.verdict != "not_bought" and not (
                terms.unknown and attempt.verdict == "lost"
            ):
                yield f"attempt {attempt.id} is {attempt.verdict} without a prediction"
        elif (known := sales.get(attempt.prediction_id)) is None:
            yield f"attempt {attempt.id} has {attempt.prediction_id}, which is not in the ledger"
        else:
            yield from _agrees(attempt, known)


def _agrees(attempt: Attempt, sale: Sale) -> Iterator[str]:
    if sale.attempt_id not in {attempt.id, None}:
        yield f"attempt {attempt.id} has {sale.id}, which was created for {sale.attempt_id}"
    denied = attempt.verdict == "cancelled" and sale.denied
    overran = attempt.verdict == "failed" and sale.overran
    if sale.heading not in VERDICTS.get(str(attempt.verdict), set()) and not (
        denied or overran or sale.vanished
    ):
        yield f"attempt {attempt.id} is {attempt.verdict}, {sale.id} {sale.heading}"


def _bytes_are_true(evidence: Evidence, _: Terms) -> Iterator[str]:
    """I4, E4: a completed job has the files of its one successful prediction, byte for byte.

    An orphan may succeed before its cancellation arrives; I3 checks whether orphans are allowed.
    """
    winners: dict[UUID, list[Attempt]] = defaultdict(list)
    for attempt in evidence.attempts:
        if attempt.verdict == "succeeded" and attempt.prediction_id not in evidence.orphans:
            winners[attempt.job_id].append(attempt)
    for job in evidence.jobs.values():
        media = evidence.media.get(job.id, ())
        if job.status != "completed":
            if media:
                yield f"{job.id} is {job.status} and has files"
            continue
        if [one.id for one in winners[job.id]] != [job.attempt_id] or not media:
            yield f"{job.id} has {len(winners[job.id])} successes and {len(media)} files"
        yield from _files_are_true(evidence, job)


def _files_are_true(evidence: Evidence, job: Job) -> Iterator[str]:
    for one in evidence.media.get(job.id, ()):
        stored = evidence.files.get(one.key)
        truth = evidence.truths.get((str(job.prediction_id), one.index))
        if stored is None:
            yield f"{one.key} is missing"
        elif stored != (one.size_bytes, one.sha256):
            yield f"{one.key} has {stored}, its row says {one.size_bytes}, {one.sha256}"
        elif evidence.bare.get(one.key, one.sha256) != truth or one.attempt_id != job.attempt_id:
            yield f"{one.key} is not what {job.prediction_id} made"


def _thumbnails_have_files(evidence: Evidence, _: Terms) -> Iterator[str]:
    """E4: a small picture is beside a file that a completed job has."""
    kept = {one.key for files in evidence.media.values() for one in files}
    for key in evidence.thumbnails:
        if original_key(key) not in kept:
            yield f"{key} shows a file that no job has"


def _cancels_are_true(evidence: Evidence, _: Terms) -> Iterator[str]:
    """I5: the response to a cancellation is the job's final state, and nothing runs on."""
    asked = {UUID(row["job"]) for row in evidence.history if row["op"] == "cancel"}
    for row in said(evidence, "cancel", "ok"):
        job = evidence.jobs.get(UUID(row["job"]))
        if job is None:
            continue  # reported by `_accepted_exists`
        won = row["status"] == 200
        if won != (job.status == "cancelled"):
            yield f"a cancel of {job.id} was answered {row['status']}, and it is {job.status}"
    for job in evidence.jobs.values():
        if job.status == "cancelled" and job.id not in asked:
            yield f"{job.id} was cancelled without a request"
    for sale in evidence.sales:
        if sale.ended is None:
            yield f"{sale.id} still runs"


def _money_is_explained(evidence: Evidence, terms: Terms) -> Iterator[str]:
    """E3, E5, E7: every unit that was billed has its reason, and no job was paid for twice."""
    paid = money(evidence)
    if not paid.balanced:
        yield f"not everything is explained: {paid}"
    if paid.twice and not terms.orphans:
        yield f"paid twice for {paid.twice} jobs"
    if paid.lost:
        yield f"paid for {paid.lost} results that are lost"
    stopped = {
        attempt.prediction_id for attempt in evidence.attempts if attempt.verdict == "cancelled"
    }
    for sale in evidence.sales:
        ours = sale.id in stopped or sale.id in evidence.orphans or sale.overran
        if str(sale.heading).startswith("canceled") and not ours:
            yield f"{sale.id} was stopped for no reason"
    if terms.exact and paid.billed != len(evidence.jobs):
        yield f"{paid.billed} paid for {len(evidence.jobs)} jobs"
    if len(evidence.tokens) > evidence.accounts or evidence.leaks:
        yield f"{len(evidence.tokens)} tokens, {evidence.leaks} sent to the host of files"
