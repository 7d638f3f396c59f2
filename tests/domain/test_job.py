"""A job moves only as the table of transitions says, and never again once it has ended."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.errors import IllegalTransition, ProviderUnavailable, StorageError
from fleek.domain.job import (
    TERMINAL,
    TRANSITIONS,
    AttemptId,
    Backoff,
    Change,
    Job,
    JobError,
    PredictionId,
    Stage,
    State,
    Status,
    WorkerId,
)
from fleek.domain.transitions import (
    cancel,
    claim,
    collect,
    complete,
    defer,
    fail,
    fail_permanently,
    mark_predicted,
    mark_unknown,
    mark_waiting,
    postpone,
    recollect,
    release_collect,
    set_progress,
)
from samples import NOON, SECOND, WORKER, a_job

ERROR: Final = JobError("code", "message")
AWAY: Final = ProviderUnavailable("away")
ATTEMPT: Final = AttemptId(WORKER)
BACKOFF: Final = Backoff()

Verb = Callable[[Job], Change]

VERBS: Final[dict[str, tuple[Verb, frozenset[State]]]] = {
    "claim": (
        lambda job: claim(job, WORKER, ATTEMPT, now=NOON),
        frozenset({Status.PENDING}),
    ),
    "wait": (
        lambda job: mark_waiting(job, PredictionId("p"), now=NOON),
        frozenset({Stage.STARTING, Stage.UNKNOWN}),
    ),
    "advance": (
        lambda job: set_progress(job, 0.5, now=NOON),
        frozenset({Stage.WAITING}),
    ),
    "finish": (
        lambda job: mark_predicted(job, now=NOON),
        frozenset({Stage.WAITING}),
    ),
    "collect": (
        lambda job: collect(replace(job, worker_id=None), WORKER, now=NOON),
        frozenset({Stage.COLLECTING}),
    ),
    "release": (
        lambda job: release_collect(job, now=NOON, reason="shutdown"),
        frozenset({Stage.COLLECTING}),
    ),
    "postpone": (
        lambda job: postpone(job, StorageError("away"), now=NOON, backoff=BACKOFF),
        frozenset({Stage.COLLECTING}),
    ),
    "recollect": (
        lambda job: recollect(job, now=NOON),
        frozenset({Status.FAILED}),
    ),
    "complete": (
        lambda job: complete(job, now=NOON, outputs=1),
        frozenset({Stage.COLLECTING}),
    ),
    "doubt": (
        lambda job: mark_unknown(job, now=NOON, reason="no answer"),
        frozenset({Stage.STARTING}),
    ),
    "defer": (
        lambda job: defer(job, AWAY, now=NOON, backoff=BACKOFF),
        frozenset({Stage.STARTING, Stage.UNKNOWN}),
    ),
    "fail for now": (
        lambda job: fail(job, ERROR, retryable=True, now=NOON, backoff=BACKOFF),
        frozenset(Stage),
    ),
    "fail for good": (
        lambda job: fail(job, ERROR, retryable=False, now=NOON, backoff=BACKOFF),
        frozenset({Status.PENDING, *Stage}),
    ),
    "give up": (
        lambda job: fail_permanently(job, ERROR, now=NOON),
        frozenset({Status.PENDING, *Stage}),
    ),
    "cancel": (
        lambda job: cancel(job, now=NOON),
        frozenset({Status.PENDING, *Stage}),
    ),
}
"""Each verb, and the states that it may leave."""

STATES: Final[tuple[State, ...]] = (Status.PENDING, *Stage, *sorted(TERMINAL))


def in_state(state: State) -> Job:
    """Return a job in this state, with its first attempt made."""
    status, stage = (Status.PROCESSING, state) if isinstance(state, Stage) else (state, None)
    return a_job(status=status, stage=stage, attempt=1, attempt_id=ATTEMPT)


ALLOWED: Final = [(name, state) for name, (_, states) in VERBS.items() for state in sorted(states)]
FORBIDDEN: Final = [
    (name, state) for name in VERBS for state in STATES if (name, state) not in ALLOWED
]


@pytest.mark.parametrize(("name", "state"), ALLOWED)
def test_a_verb_leaves_the_states_it_may(name: str, state: State) -> None:
    """And goes where the table says."""
    change = VERBS[name][0](in_state(state))

    assert change.job.state in TRANSITIONS[state]
    assert change.job.updated_at == NOON


@pytest.mark.parametrize(("name", "state"), FORBIDDEN)
def test_a_verb_leaves_no_other_state(name: str, state: State) -> None:
    """A late answer or a second caller is refused, and the message names the job."""
    job = in_state(state)

    with pytest.raises(IllegalTransition, match=str(job.id)):
        VERBS[name][0](job)


def test_the_table_knows_every_state_and_only_collecting_again_follows_an_end() -> None:
    """It is whole, and a job cannot be "processing" without a stage."""
    assert set(TRANSITIONS) == set(STATES)
    followed = {state: after for state in TERMINAL if (after := TRANSITIONS[state])}
    assert followed == {Status.FAILED: {Stage.COLLECTING}}
    assert not any(Status.PROCESSING in after for after in TRANSITIONS.values())


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=40))
def test_any_sequence_follows_the_table(names: list[str]) -> None:
    """Whatever is tried, in any order: a step is in the table or is refused, and an end stays."""
    job = a_job()

    for name in names:
        before = job
        try:
            change = VERBS[name][0](job)
        except IllegalTransition:
            continue
        job = change.job
        assert not before.terminal or change.event == "recollecting"
        assert job.state in TRANSITIONS[before.state]
        assert (job.stage is not None) == (job.status is Status.PROCESSING)
        assert job.terminal == (job.completed_at is not None)
        assert job.version == before.version
        assert 0 <= job.attempt <= job.max_attempts
        assert job.retries < job.max_attempts
        assert change.event


def test_a_claim_counts_the_attempt_and_forgets_the_last_one() -> None:
    """What the last prediction left does not belong to the next."""
    job = replace(
        in_state(Status.PENDING),
        prediction_id=PredictionId("old"),
        progress=0.9,
        collects=3,
        deferrals=2,
        error=ERROR,
    )

    change = claim(job, WORKER, ATTEMPT, now=NOON + SECOND)

    taken = change.job
    assert (taken.attempt, taken.ordinal, taken.worker_id) == (2, 4, WORKER)
    assert (taken.prediction_id, taken.progress, taken.collects) == (None, None, 0)
    assert taken.started_at == NOON + SECOND
    assert taken.error == ERROR
    assert change.data == {"attempt": 4, "worker": str(WORKER)}


def test_a_job_has_started_with_its_first_claim() -> None:
    """Later ones do not move it."""
    job = replace(in_state(Status.PENDING), started_at=NOON - SECOND)

    assert claim(job, WORKER, ATTEMPT, now=NOON).job.started_at == NOON - SECOND


@pytest.mark.parametrize(
    ("stage", "event"), [(Stage.STARTING, "waiting"), (Stage.UNKNOWN, "adopted")]
)
def test_a_prediction_that_was_found_again_is_adopted(stage: Stage, event: str) -> None:
    """The history tells the two apart."""
    job = replace(in_state(stage), worker_id=WORKER)

    change = mark_waiting(job, PredictionId("p"), now=NOON)

    assert (change.event, change.job.worker_id, change.job.prediction_id) == (event, None, "p")


def test_outputs_are_collected_by_one_worker() -> None:
    """The one that holds the job."""
    job = collect(in_state(Stage.COLLECTING), WORKER, now=NOON).job

    with pytest.raises(IllegalTransition, match="twice"):
        collect(job, WorkerId(a_job().id), now=NOON)


def test_collecting_later_counts_and_waits() -> None:
    """The job is free for any worker when its time comes."""
    job = replace(in_state(Stage.COLLECTING), worker_id=WORKER, collects=1)

    change = postpone(job, StorageError("away"), now=NOON, backoff=BACKOFF)

    assert (change.job.collects, change.job.worker_id) == (2, None)
    assert NOON + SECOND <= change.job.run_at <= NOON + SECOND * 2
    assert change.job.error == JobError("storage_unavailable", "away")
    assert change.data["code"] == "storage_unavailable"


def test_collecting_later_is_never_much_later() -> None:
    """Whatever was away may be back, and whatever the operator chose for new attempts."""
    job = replace(in_state(Stage.COLLECTING), worker_id=WORKER, collects=500)
    slow = Backoff(timedelta(hours=1), 10, timedelta(days=1))

    change = postpone(job, AWAY, now=NOON, backoff=slow)

    assert NOON + SECOND * 30 <= change.job.run_at <= NOON + SECOND * 60


def test_a_result_that_is_collected_again_has_no_past() -> None:
    """It waits for a worker at once, and has not ended."""
    job = replace(in_state(Status.FAILED), completed_at=NOON, collects=9, error=ERROR)

    again = recollect(job, now=NOON + SECOND).job

    assert (again.state, again.worker_id, again.run_at) == (Stage.COLLECTING, None, NOON + SECOND)
    assert (again.completed_at, again.collects, again.error) == (None, 0, None)


def test_a_completed_job_has_no_error() -> None:
    """Whatever happened on the way."""
    job = replace(in_state(Stage.COLLECTING), error=ERROR, progress=0.3)

    done = complete(job, now=NOON, outputs=2).job

    assert (done.error, done.progress, done.completed_at) == (None, 1.0, NOON)


@pytest.mark.parametrize(("crashed", "crashes"), [(True, 3), (False, 2)])
def test_only_a_crash_counts_as_one(*, crashed: bool, crashes: int) -> None:
    """An answer that was lost is nobody's death."""
    job = replace(in_state(Stage.STARTING), crashes=2)

    assert mark_unknown(job, now=NOON, reason="r", crashed=crashed).job.crashes == crashes


def test_an_attempt_that_bought_nothing_is_given_back() -> None:
    """It costs no attempt, and the floor is kept."""
    job = replace(in_state(Stage.STARTING), attempt=2, deferrals=1)

    change = defer(job, AWAY, now=NOON, backoff=BACKOFF, floor=SECOND * 100)

    assert (change.job.attempt, change.job.deferrals, change.job.ordinal) == (1, 2, 3)
    assert change.job.run_at == NOON + SECOND * 100
    assert change.job.error is None


def test_a_failure_that_may_pass_is_followed_by_another_attempt() -> None:
    """The error is kept until then, and the progress is not."""
    job = replace(in_state(Stage.WAITING), progress=0.4)

    again = fail(job, ERROR, retryable=True, now=NOON, backoff=BACKOFF).job

    assert (again.status, again.retries, again.error) == (Status.PENDING, 1, ERROR)
    assert (again.progress, again.completed_at) == (None, None)


@pytest.mark.parametrize(
    ("attempt", "retryable"), [(3, True), (1, False)], ids=["last attempt", "permanent"]
)
def test_a_failure_that_nothing_can_follow_is_the_end(*, attempt: int, retryable: bool) -> None:
    """No attempt is left, or none can help."""
    job = replace(in_state(Stage.WAITING), attempt=attempt)

    change = fail(job, ERROR, retryable=retryable, now=NOON, backoff=BACKOFF)

    assert (change.event, change.job.status, change.job.retries) == ("failed", Status.FAILED, 0)
    assert change.job.error == ERROR


@given(
    n=st.integers(0, 10_000),
    base=st.floats(0.001, 100),
    factor=st.floats(1, 10),
    ceiling=st.floats(0.001, 3600),
)
def test_a_wait_is_never_longer_than_its_ceiling(
    n: int, base: float, factor: float, ceiling: float
) -> None:
    """However many failures there were, and without an overflow."""
    backoff = Backoff(timedelta(seconds=base), factor, timedelta(seconds=ceiling))

    mark_waiting = backoff.delay(n)

    limit = min(ceiling, base * factor ** min(max(n, 1) - 1, 64))
    assert timedelta(0) <= mark_waiting <= timedelta(seconds=limit) + timedelta(microseconds=1)


@given(n=st.integers(1, 100), floor=st.floats(0, 10_000))
def test_a_wait_is_never_shorter_than_its_floor(n: int, floor: float) -> None:
    """The provider has said when to come back."""
    assert BACKOFF.delay(n, floor=timedelta(seconds=floor)) >= timedelta(seconds=floor)
