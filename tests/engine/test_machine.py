"""The engine under a hostile scheduler: any order of steps, crashes, suspensions and late results.

Hypothesis chooses the next step; after every step the invariants of ``GUARANTEES.md`` hold, and
when the storm is over every job ends.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from backing_services import migrated_sqlite
from fakes import BADLY, FOR_GOOD, PNG, WELL, Clock, FakeProvider, a_request
from fleek.bootstrap import open_runtime
from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    Conflict,
    OutcomeUnknown,
    OutputBroken,
    ProviderUnavailable,
    WorkerSuspended,
)
from fleek.domain.job import Job, JobId, PredictionId, Status
from fleek.domain.media import Key, Part, metadata_key, owner
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.orphan_files import OrphanSearch
from fleek.engine.purge import Retention, purge
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind, carry_out, intend, start, start_prediction
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.providers.base import Failed, Outcome, Prediction
from fleek.settings import Settings
from fleek.store import attempts, events, jobs, listing
from recovering import Recovering

FATES: Final = st.sampled_from(["ok", "lost", "busy"])
ENDS: Final = {"completed", "failed", "cancelled"}
KEPT_DAYS: Final = 0.05
NO_TIME: Final = timedelta(days=-3650)  # files have times of the machine's clock
STOPPED: Final = Failed("prediction_cancelled", "stopped", retryable=False)


@dataclass
class Host(FakeProvider):
    """A provider whose predictions end one by one, and whose cancellations succeed."""

    ended: dict[PredictionId, Outcome] = field(default_factory=dict)
    losing: bool = False  # whether responses to `start` are lost

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Create a prediction, and perhaps lose the response."""
        prediction = await super().start(job, attempt)
        if self.losing:
            raise OutcomeUnknown("reset")
        return prediction

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Report the state of each prediction."""
        return {one: Prediction(id=one, outcome=self.ended.get(one)) for one in ids}

    async def cancel(self, prediction_id: PredictionId) -> None:
        """Cancel a running prediction."""
        self.cancelled.append(prediction_id)
        self.ended.setdefault(prediction_id, STOPPED)

    def live(self) -> Counter[JobId]:
        """Count running predictions by job."""
        return Counter(
            attempt.job_id for one, attempt in self.created.items() if one not in self.ended
        )


Intended = tuple[Runtime, Job, Attempt]


class Storm(RuleBasedStateMachine):
    """Jobs, workers that run, freeze and crash, and a slow provider."""

    submitted = Bundle("submitted")
    workers = Bundle("workers")
    intents = Bundle("intents")  # recorded, and the prediction not created yet
    answers = Bundle("answers")  # created, and not bound yet

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="fleek-machine-"))
        self.stack = AsyncExitStack()
        self.clock, self.host = Clock(), Host()
        self.alive: list[Runtime] = []
        self.ends: dict[JobId, Status] = {}
        self.accepted: list[JobId] = []
        database = self.folder / "fleek.db"
        database.write_bytes(migrated_sqlite())
        self.rt: Runtime = self.do(self._open(database))
        self.watch, self.recovery = Watch(self.rt), Recovering(self.rt)
        self.expiry = Retention(self.rt)

    def do(self, work: Any) -> Any:
        """Run a coroutine on this machine's loop."""
        return self.runner.run(self._whole(work))

    async def _whole(self, work: Any) -> Any:
        try:
            return await work
        finally:
            if self.alive:  # tasks that it has started
                await self.rt.cancels.tasks.finish(seconds=60)

    async def _open(self, database: Path) -> Runtime:
        chosen = Settings(
            database_url=f"sqlite:///{database}",
            job_deadline=timedelta(hours=2),
            metadata_retention_days=KEPT_DAYS,
        )
        opened = await self.stack.enter_async_context(open_runtime(chosen))
        rt = replace(
            opened, now=self.clock, steady=self.clock.steady, providers={"placeholder": self.host}
        )
        return await self._worker(rt)

    async def _worker(self, rt: Runtime) -> Runtime:
        lease = WorkerLease(
            rt.db,
            heartbeat=timedelta(seconds=5),
            slots=4,
            now=self.clock,
            steady=self.clock.steady,
        )
        await lease.register()
        return replace(rt, lease=lease)

    @initialize(target=submitted)
    def first_jobs(self) -> Any:
        """There is always work to do."""
        return multiple(*(self.submit_one(2) for _ in range(3)))

    @initialize(target=workers)
    def first_workers(self) -> Any:
        """There is always a worker."""
        self.alive = [self.do(self._worker(self.rt)) for _ in range(2)]
        return multiple(*self.alive)

    @rule(target=workers)
    def worker_starts(self) -> Runtime:
        """Another process starts working."""
        worker: Runtime = self.do(self._worker(self.rt))
        self.alive.append(worker)
        return worker

    @rule(target=submitted, attempts=st.integers(1, 3))
    def submit(self, attempts: int) -> JobId:
        """A caller gets the response: from now on the job must not be lost."""
        return self.submit_one(attempts)

    def submit_one(self, attempts: int) -> JobId:
        """Submit a job with a number of attempts."""
        job: Job = self.do(submit(self.rt, a_request(max_attempts=attempts)))
        self.accepted.append(job.id)
        return job.id

    @rule(target=intents, worker=workers, job_id=submitted)
    def claim_only(self, worker: Runtime, job_id: JobId) -> Any:
        """A worker records its intent, and is interrupted right after it."""
        return self.claim(worker, job_id) or multiple()

    def claim(self, worker: Runtime, job_id: JobId) -> Intended | None:
        """Record an intent, if the job is due and the worker may."""
        try:
            intended: tuple[Job, Attempt] | None = self.do(intend(worker, job_id))
        except WorkerSuspended:
            return None
        return None if intended is None else (worker, *intended)

    @rule(worker=workers, job_id=submitted, fate=FATES)
    def claim_and_create(self, worker: Runtime, job_id: JobId, fate: str) -> None:
        """A worker claims and creates a prediction without an interruption."""
        intended = self.claim(worker, job_id)
        if intended is not None:
            self.create(intended, fate)

    @rule(intended=consumes(intents), fate=FATES)
    def create_late(self, intended: Intended, fate: str) -> None:
        """The worker continues, perhaps much later, and creates the prediction."""
        self.create(intended, fate)

    def create(self, intended: Intended, fate: str) -> None:
        """Create a prediction for an intent; the response may be lost or be a refusal."""
        worker, job, attempt = intended
        self.host.losing = fate == "lost"
        if fate == "busy":
            self.host.starts = [ProviderUnavailable("busy")]
        self.do(carry_out(worker, job, attempt))
        event(f"create {fate} -> {self.stored(job.id).state}")
        self.host.starts, self.host.losing = [], False

    @rule(target=answers, intended=consumes(intents))
    def create_unbound(self, intended: Intended) -> Any:
        """The prediction is created in time, and the worker freezes before it can bind it."""
        worker, job, attempt = intended
        try:
            worker.lease.check()
        except WorkerSuspended:
            self.do(carry_out(worker, job, attempt))
            return multiple()
        return (worker, attempt, self.do(start_prediction(worker, job, attempt)))

    @rule(answer=consumes(answers))
    def bind_late(self, answer: tuple[Runtime, Attempt, Prediction]) -> None:
        """The worker continues: recovery may have closed its attempt in the meantime."""
        worker, attempt, prediction = answer
        self.do(bind(worker, attempt, prediction))

    @rule(worker=consumes(workers))
    def crash(self, worker: Runtime) -> None:
        """A process ends without notice, and its tasks are never continued."""
        self._remove(worker)

    @rule(intended=consumes(intents))
    def crash_before_creating(self, intended: Intended) -> None:
        """A worker crashes between the intent and the creation."""
        self._remove(intended[0])

    @rule(answer=consumes(answers))
    def crash_before_binding(self, answer: tuple[Runtime, Attempt, Prediction]) -> None:
        """A worker crashes between the creation and the binding."""
        self._remove(answer[0])

    def _remove(self, worker: Runtime) -> None:
        if worker in self.alive:
            self.alive.remove(worker)

    @rule(seconds=st.sampled_from([0.6, 3, 40, 4000]), frozen=st.booleans())
    def time_passes(self, seconds: float, *, frozen: bool) -> None:
        """Workers that are not frozen send heartbeats."""
        self.clock.tick(seconds=seconds)
        for worker in [self.rt] if frozen else [self.rt, *self.alive]:
            self.do(worker.lease.beat())

    @rule(outcome=st.sampled_from([WELL, WELL, BADLY, FOR_GOOD]), which=st.integers(0, 20))
    def prediction_ends(self, outcome: Outcome, which: int) -> None:
        """One of the predictions ends at the provider."""
        live = [one for one in self.host.created if one not in self.host.ended]
        if live:
            self.host.ended[live[which % len(live)]] = outcome

    @rule(worker=workers, job_id=submitted)
    def start(self, worker: Runtime, job_id: JobId) -> None:
        """A start is dispatched, needed or not."""
        try:
            self.do(start(worker, job_id))
        except WorkerSuspended:
            return

    @rule(worker=workers, job_id=submitted, broken=st.booleans())
    def collect(self, worker: Runtime, job_id: JobId, *, broken: bool) -> None:
        """A collection is dispatched, needed or not."""
        self.host.reads = [OutputBroken("cut")] if broken else []
        try:
            self.do(collect(worker, job_id))
        except WorkerSuspended:
            return

    @rule(job_id=submitted)
    def cancel(self, job_id: JobId) -> None:
        """A caller cancels a job, and the response says whether that succeeded."""
        try:
            job, _ = self.do(cancel(self.rt, job_id, tenant_id="default"))
        except Conflict:
            assert self.stored(job_id).status in {Status.COMPLETED, Status.FAILED}
        else:
            assert job.status is self.stored(job_id).status is Status.CANCELLED

    @rule()
    def watch_turn(self) -> None:
        """The coordinator polls waiting predictions."""
        self.do(self.watch.turn())

    @rule()
    def recover_turn(self) -> None:
        """The coordinator recovers."""
        self.do(self.recovery.turn())

    @rule(job_id=submitted)
    def purge(self, job_id: JobId) -> None:
        """A caller purges a job in any state."""
        before = self.stored(job_id)
        job, _ = self.do(purge(self.rt, job_id, tenant_id="default"))
        assert job.purged_at is not None
        assert job.status is (before.status if before.terminal else Status.CANCELLED)

    @rule()
    def expire_turn(self) -> None:
        """The coordinator removes what was purged or has expired."""
        self.do(self.expiry.turn())

    @rule()
    def remove_orphans(self) -> None:
        """The coordinator removes orphaned files, however young."""
        self.do(self._remove_orphans())

    async def _remove_orphans(self) -> None:
        search = OrphanSearch(self.rt, grace=NO_TIME)
        while await search.batch():
            pass

    @rule()
    def coordinator_changes(self) -> None:
        """Another process becomes coordinator, with empty caches."""
        self.expiry = Retention(self.rt)
        self.watch, self.recovery = Watch(self.rt), Recovering(self.rt)

    def stored(self, job_id: JobId) -> Job:
        """Return a job as it is stored."""
        job: Job = self.do(jobs.get_any_tenant(self.rt.db, job_id))
        return job

    @invariant()
    def terminal_is_final(self) -> None:
        """I1, I2: every accepted job is there, and what has ended stays as it ended."""
        stored = {view.job.id: view.job for view in self.do(self._all_jobs())}
        assert stored.keys() == set(self.accepted)
        for job_id, job in stored.items():
            assert job.attempt <= job.max_attempts
            assert self.ends.get(job_id, job.status) is job.status
            if job.terminal:
                self.ends[job_id] = job.status

    @invariant()
    def never_two_live_predictions(self) -> None:
        """I3: one prediction per attempt, and one running prediction per job."""
        assert all(number <= 1 for number in self.host.live().values())

    async def _all_jobs(self) -> list[jobs.JobView]:
        return (await listing.page(self.rt.db, tenant_id="default", limit=1000)).views

    def teardown(self) -> None:
        """When the storm is over every job ends, and the ledgers agree."""
        self.do(self._heal())
        self.do(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    async def _heal(self) -> None:
        self.host.reads = []
        rounds = 0
        while rounds < 40 and not await self._at_rest():
            rounds += 1
            self.clock.tick(seconds=61)

            await self.rt.lease.beat()  # the others have expired by now
            await self.recovery.turn()
            for job_id in self.accepted:
                await start(self.rt, job_id)
            for one in self.host.created:
                self.host.ended.setdefault(one, WELL)
            await self.watch.turn()
            for job_id in self.accepted:
                await collect(self.rt, job_id)
        await self.expiry.turn()
        await self.expiry.turn()
        for job_id in self.accepted:
            await self._check_ledger(job_id)
        await self._check_files()
        assert await self._at_rest()

    async def _at_rest(self) -> bool:
        if any(not view.job.terminal for view in await self._all_jobs()):
            return False
        return await attempts.count_without_verdict(self.rt.db) == {}

    async def _check_ledger(self, job_id: JobId) -> None:
        view = await jobs.get(self.rt.db, job_id, tenant_id="default")
        assert view.job.terminal, view.job
        history = await events.of_job(self.rt.db, job_id)
        for kind in {one.type for one in history}:
            event(f"history: {kind}")
        assert [event.seq for event in history] == list(range(1, len(history) + 1))
        assert len([event for event in history if event.type in ENDS]) == 1
        created = [one.prediction_id for one in await attempts.of_job(self.rt.db, job_id)]
        predictions = {
            one for one, attempt in self.host.created.items() if attempt.job_id == job_id
        }
        assert predictions <= set(created)
        assert not view.job.purging
        if view.job.status is Status.COMPLETED and view.job.purged_at is None:
            (media,) = view.media
            stored = b"".join([chunk async for chunk in self.rt.storage.read(media.key)])
            assert stored == PNG

    async def _check_files(self) -> None:
        """I7: no orphaned file is left in storage, and no file of a job is missing."""
        await self._remove_orphans()
        named: set[Key] = set()
        for view in await self._all_jobs():
            named.update(media.key for media in view.media)
            if view.job.status is Status.COMPLETED and view.job.metadata_purged_at is None:
                named.add(metadata_key(view.job.id))
        kept = [one.key async for one in self.rt.storage.keys()]  # noqa: SIM118 - no dict
        ours = {(part, job_id) for part in Part for job_id in self.accepted}
        assert {key for key in kept if owner(key) in ours} == named


TestStorm = pytest.mark.usefixtures("tmp_path", "_full_suite")(Storm.TestCase)
TestStorm.settings = settings(
    max_examples=settings().max_examples // 5,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
