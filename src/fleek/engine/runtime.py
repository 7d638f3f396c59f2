"""The open collaborators of a process, and the one place where any error is caught."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeVar

import structlog

from fleek.dispatch.base import Dispatcher
from fleek.domain.attempt import Attempt
from fleek.domain.errors import DatabaseUnavailable, FleekError, StorageFull
from fleek.domain.job import AttemptId, Job, JobId
from fleek.engine.bucket import TokenBucket
from fleek.engine.capacity import StorageCapacity
from fleek.engine.clock import Clock
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.parameters import Validators
from fleek.engine.pause_cache import PauseCache
from fleek.engine.shielded_tasks import ShieldedTasks
from fleek.engine.stops import Stops
from fleek.providers.base import Provider
from fleek.settings import Settings
from fleek.storage.base import Storage
from fleek.store.database import Database
from fleek.store.updates import Decision, Update, apply
from fleek.system_clock import Steady, steady_seconds
from fleek.telemetry import Metrics

T = TypeVar("T")
Topic = Literal["admit", "watch", "recover", "expire", "sweep"]

log = structlog.get_logger(__name__)

CALLER_PATIENCE: Final = timedelta(seconds=0.8)  # a write of the API's waits so long for its turn
RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)  # between tries to write; the last one repeats
REST_SECONDS: Final = 0.02  # between two turns of a loop, at least
LONGEST_REST_SECONDS: Final = 0.2
RESTS: Final = 2  # rest so much longer than the turn took: loops leave most of the time to jobs


class Bell:
    """Wakes one loop before its time."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Say that there is something to do."""
        self._event.set()

    async def wait(self, *, seconds: float) -> None:
        """Wait until somebody rings, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


class Wakeups:
    """Wakes the coordinator's loops of this process; several may listen to one topic."""

    def __init__(self) -> None:
        self._listening: dict[Topic, list[Bell]] = defaultdict(list)

    def notify(self, topic: Topic) -> None:
        """Say that there is something to do; whoever is busy hears it afterwards."""
        for bell in self._listening[topic]:
            bell.notify()

    @contextmanager
    def listen(self, topic: Topic) -> Iterator[Bell]:
        """Give a bell that rings for this topic."""
        bell = Bell()
        self._listening[topic].append(bell)
        try:
            yield bell
        finally:
            self._listening[topic].remove(bell)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The open collaborators of one process. Every verb takes it first."""

    settings: Settings
    db: Database
    providers: Mapping[str, Provider]
    storage: Storage
    dispatcher: Dispatcher
    now: Callable[[], datetime]  # aware, UTC; the same for all processes on this database
    clock: Clock  # makes it so: it is set at the start and with each heartbeat
    lease: WorkerLease
    capacity: StorageCapacity
    validators: Validators = field(default_factory=Validators)
    metrics: Metrics = field(default_factory=Metrics)
    wakeups: Wakeups = field(default_factory=Wakeups)
    shielded: ShieldedTasks = field(default_factory=ShieldedTasks)
    stops: Stops = field(default_factory=Stops)
    pauses: PauseCache = field(default_factory=PauseCache)
    recalls: dict[str, TokenBucket] = field(
        default_factory=dict
    )  # calls of `SupportsRecall.recall`, by provider
    steady: Steady = steady_seconds  # what pauses and time-outs within this process go by

    async def apply(
        self,
        job_id: JobId,
        decide: Decision,
        *,
        attempt_id: AttemptId | None = None,
        patience: timedelta | None = None,
    ) -> Update:
        """Decide on a job and write the step; see `fleek.store.updates.apply`."""
        update = await apply(self.db, job_id, decide, attempt_id=attempt_id, patience=patience)
        if update.change is not None:
            self.metrics.steps.labels(update.change.event).inc()
        return update

    async def apply_until_stored(
        self, job_id: JobId, decide: Decision, *, attempt_id: AttemptId | None = None
    ) -> Update:
        """Do as `apply`, and go on trying while the database is away: this must not be lost.

        A commit whose answer was lost is recognised, and not taken for somebody else's.
        """
        once, tries = _IdempotentDecision(decide), 0
        while True:
            try:
                update = await self.apply(job_id, once.decide, attempt_id=attempt_id)
            except (DatabaseUnavailable, StorageFull) as error:
                log.warning("database_unavailable", job_id=str(job_id), reason=str(error))
            else:
                return once.written or update
            await asyncio.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
            tries += 1


class _IdempotentDecision:
    """A decision that is not made again if an earlier try has written it after all."""

    def __init__(self, decide: Decision) -> None:
        self._decide = decide
        self._tried: Update | None = None  # what the latest try may have written
        self.written: Update | None = None  # set if it has

    def decide(self, job: Job, attempt: Attempt | None) -> Update:
        """Decide, unless the job is what the latest try wanted to make of it."""
        self.written = None
        tried = self._tried
        if tried is not None and tried.change is not None and tried.change.job == job:
            self.written = tried
            return Update()
        update = self._decide(job, attempt)
        self._tried = update
        if update.change is not None:
            raised = replace(update.change.job, version=job.version + 1)
            self._tried = replace(update, change=replace(update.change, job=raised))
        return update


async def run_logged(
    rt: Runtime, name: str, work: Awaitable[T], *, job_id: JobId | None = None
) -> T | None:
    """Do one task of a worker or one turn of a loop; whatever it raises is logged and counted.

    Returns None if it failed. The job, if any, is freed or tried again by the loops.
    """
    try:
        result = await work
    except FleekError as error:
        rt.metrics.failures.labels(name).inc()
        log.warning(
            "task_failed",
            task=name,
            job_id=job_id and str(job_id),
            code=error.code,
            reason=str(error),
        )
        return None
    except Exception:
        rt.metrics.failures.labels(name).inc()
        log.exception("task_crashed", task=name, job_id=job_id and str(job_id))
        return None
    return result


async def loop(
    rt: Runtime,
    topic: Topic,
    turn: Callable[[], Awaitable[timedelta]],
    *,
    patience: timedelta,
    name: str | None = None,
) -> None:
    """Take turns for ever; each says how long to wait unless the bell rings.

    A failed turn is followed by another after `patience`. A bell that rings without end costs a
    third of the time at most, not a turn per ring; the first ring after a quiet while is heard at
    once. `name` is what it is called in logs and metrics, if several loops have one topic.
    """
    name = name or topic
    with rt.wakeups.listen(topic) as bell:
        await _turns(rt, name, turn, bell, patience=patience)


async def _turns(
    rt: Runtime,
    name: str,
    turn: Callable[[], Awaitable[timedelta]],
    bell: Bell,
    *,
    patience: timedelta,
) -> None:
    while True:
        began = time.monotonic()
        wait = await run_logged(rt, name, turn())
        rt.metrics.turns.labels(name).inc()
        if wait is None:
            await asyncio.sleep(patience.total_seconds())
            continue
        rt.metrics.last_success.labels(name).set(rt.now().timestamp())
        took = time.monotonic() - began
        rest = min(max(RESTS * took, REST_SECONDS), LONGEST_REST_SECONDS)
        await asyncio.sleep(rest)
        await bell.wait(seconds=max(wait.total_seconds() - rest, 0.001))
