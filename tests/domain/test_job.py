"""Jobs change state only as the transition table allows; a final state is not left."""

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
    Kind,
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
"""Each transition, and the states in which it is allowed."""

STATES: Final[tuple[State, ...]] = (Status.PENDING, *Stage, *sorted(TERMINAL))


def in_state(state: State) -> Job:
    """Return a job in this state, with one attempt."""
    status, stage = (Status.PROCESSING, state) if isinstance(state, Stage) else (state, None)
    return a_job(status=status, stage=stage, attempt=1, attempt_id=ATTEMPT)


ALLOWED: Final = [(name, state) for name, (_, states) in VERBS.items() for state in sorted(states)]
FORBIDDEN: Final = [
    (name, state) for name in VERBS for state in STATES if (name, state) not in ALLOWED
]


def test_an_allowed_transition_succeeds(subtests: pytest.Subtests) -> None:
    """The new state is in the transition table."""
    for name, state in ALLOWED:
        with subtests.test(name=str(name)[:40], state=str(state)[:40]):
            change = VERBS[name][0](in_state(state))

            assert change.job.state in TRANSITIONS[state]
            assert change.job.updated_at == NOON


def test_other_transitions_are_refused(subtests: pytest.Subtests) -> None:
    """Late answers and second callers change nothing, and the message names the job."""
    for name, state in FORBIDDEN:
        with subtests.test(name=str(name)[:40], state=str(state)[:40]):
            job = in_state(state)

            with pytest.raises(IllegalTransition, match=str(job.id)):
                VERBS[name][0](job)


def test_the_transition_table_is_complete() -> None:
    """Only failed jobs can be collected again, and a job in `processing` has a stage."""
    assert set(TRANSITIONS) == set(STATES)
    followed = {state: after for state in TERMINAL if (after := TRANSITIONS[state])}
    assert followed == {Status.FAILED: {Stage.COLLECTING}}
    assert not any(Status.PROCESSING in after for after in TRANSITIONS.values())


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=40))
def test_any_sequence_follows_the_transition_table(names: list[str]) -> None:
    """Each step is in the table or is refused, and final states are not left."""
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


def test_a_claim_counts_the_attempt_and_clears_the_last_one() -> None:
    """The data of the last prediction do not belong to the next one."""
    job = replace(
        in_state(Status.PENDING),
        prediction_id=PredictionId("old"),
        progress=0.9,
        collects=3,
        deferrals=2,
        error=ERROR,
    )

    change = claim(job, WORKER, ATTEMPT, now=NOON + SECOND)

    claimed = change.job
    assert (claimed.attempt, claimed.ordinal, claimed.worker_id) == (2, 4, WORKER)
    assert (claimed.prediction_id, claimed.progress, claimed.collects) == (None, None, 0)
    assert claimed.started_at == NOON + SECOND
    assert claimed.error == ERROR
    assert change.data == {"attempt": 4, "worker": str(WORKER)}


def test_started_at_is_the_first_claim() -> None:
    """Later claims do not change it."""
    job = replace(in_state(Status.PENDING), started_at=NOON - SECOND)

    assert claim(job, WORKER, ATTEMPT, now=NOON).job.started_at == NOON - SECOND


@pytest.mark.parametrize(
    ("stage", "event"), [(Stage.STARTING, "waiting"), (Stage.UNKNOWN, "adopted")]
)
def test_a_reconciled_prediction_is_adopted(stage: Stage, event: str) -> None:
    """The history distinguishes it from a new prediction."""
    job = replace(in_state(stage), worker_id=WORKER)

    change = mark_waiting(job, PredictionId("p"), now=NOON)

    assert (change.event, change.job.worker_id, change.job.prediction_id) == (event, None, "p")


def test_outputs_are_collected_by_one_worker() -> None:
    """A second worker is refused."""
    job = collect(in_state(Stage.COLLECTING), WORKER, now=NOON).job

    with pytest.raises(IllegalTransition, match="twice"):
        collect(job, WorkerId(a_job().id), now=NOON)


def test_a_postponed_collect_is_counted_and_delayed() -> None:
    """Any worker may take the job when it is due."""
    job = replace(in_state(Stage.COLLECTING), worker_id=WORKER, collects=1)

    change = postpone(job, StorageError("away"), now=NOON, backoff=BACKOFF)

    assert (change.job.collects, change.job.worker_id) == (2, None)
    assert NOON + SECOND <= change.job.run_at <= NOON + SECOND * 2
    assert change.job.error == JobError("storage_unavailable", "away")
    assert change.data["code"] == "storage_unavailable"


def test_the_collect_delay_is_limited() -> None:
    """The limit does not depend on the operator's backoff for new attempts."""
    job = replace(in_state(Stage.COLLECTING), worker_id=WORKER, collects=500)
    slow = Backoff(timedelta(hours=1), 10, timedelta(days=1))

    change = postpone(job, AWAY, now=NOON, backoff=slow)

    assert NOON + SECOND * 30 <= change.job.run_at <= NOON + SECOND * 60


def test_a_repeated_collect_starts_afresh() -> None:
    """The job is due at once and has not ended."""
    job = replace(in_state(Status.FAILED), completed_at=NOON, collects=9, error=ERROR)

    again = recollect(job, now=NOON + SECOND).job

    assert (again.state, again.worker_id, again.run_at) == (Stage.COLLECTING, None, NOON + SECOND)
    assert (again.completed_at, again.collects, again.error) == (None, 0, None)


def test_a_completed_job_has_no_error() -> None:
    """An earlier error is cleared."""
    job = replace(in_state(Stage.COLLECTING), error=ERROR, progress=0.3)

    done = complete(job, now=NOON, outputs=2).job

    assert (done.error, done.progress, done.completed_at) == (None, 1.0, NOON)


@pytest.mark.parametrize(("crashed", "crashes"), [(True, 3), (False, 2)])
def test_only_a_crash_counts_as_a_crash(*, crashed: bool, crashes: int) -> None:
    """A lost answer does not mean that a worker has crashed."""
    job = replace(in_state(Stage.STARTING), crashes=2)

    assert mark_unknown(job, now=NOON, reason="r", crashed=crashed).job.crashes == crashes


def test_an_attempt_without_a_prediction_is_not_counted() -> None:
    """The attempt can be repeated, and the minimum delay is kept."""
    job = replace(in_state(Stage.STARTING), attempt=2, deferrals=1)

    change = defer(job, AWAY, now=NOON, backoff=BACKOFF, floor=SECOND * 100)

    assert (change.job.attempt, change.job.deferrals, change.job.ordinal) == (1, 2, 3)
    assert change.job.run_at == NOON + SECOND * 100
    assert change.job.error is None


def test_a_retryable_failure_is_followed_by_another_attempt() -> None:
    """The error is kept until then, and the progress is cleared."""
    job = replace(in_state(Stage.WAITING), progress=0.4)

    again = fail(job, ERROR, retryable=True, now=NOON, backoff=BACKOFF).job

    assert (again.status, again.retries, again.error) == (Status.PENDING, 1, ERROR)
    assert (again.progress, again.completed_at) == (None, None)


@pytest.mark.parametrize(
    ("attempt", "retryable"), [(3, True), (1, False)], ids=["last attempt", "permanent"]
)
def test_a_final_failure_fails_the_job(*, attempt: int, retryable: bool) -> None:
    """No attempt is left, or another one cannot help."""
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
def test_a_delay_never_exceeds_its_maximum(
    n: int, base: float, factor: float, ceiling: float
) -> None:
    """Any number of failures is possible, without an overflow."""
    backoff = Backoff(timedelta(seconds=base), factor, timedelta(seconds=ceiling))

    mark_waiting = backoff.delay(n)

    limit = min(ceiling, base * factor ** min(max(n, 1) - 1, 64))
    assert timedelta(0) <= mark_waiting <= timedelta(seconds=limit) + timedelta(microseconds=1)


@given(n=st.integers(1, 100), floor=st.floats(0, 10_000))
def test_a_delay_is_at_least_its_minimum(n: int, floor: float) -> None:
    """The provider's Retry-After is respected."""
    assert BACKOFF.delay(n, floor=timedelta(seconds=floor)) >= timedelta(seconds=floor)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/png", Kind.IMAGE),
        ("image/gif", Kind.ANIMATION),
        ("video/mp4", Kind.VIDEO),
        ("audio/wav", Kind.AUDIO),
        ("text/plain", Kind.TEXT),
        ("application/json", Kind.TEXT),
        ("model/gltf-binary", Kind.OTHER),
        ("application/octet-stream", Kind.OTHER),
    ],
)
def test_the_kind_of_a_job_follows_from_the_type_of_its_file(
    content_type: str, kind: Kind
) -> None:
    """Lists are filtered by it."""
    assert Kind.of(content_type) is kind
