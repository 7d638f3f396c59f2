"""An API, workers and a coordinator on one database, each with its own wall clock.

They start predictions at an emulated account, over a socket. All of them, and the account, use
the clock of the test: nothing waits for real time. The account's ledger lists paid predictions.
"""

from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from authorities import trusted
from fakes import Clock, a_request
from fleek.dispatch.base import Handler, Task
from fleek.domain.errors import CallbackRejected
from fleek.domain.job import JobId, ModelName
from fleek.emulator import clock as emulated
from fleek.emulator.callbacks import write
from fleek.emulator.plan import Plan
from fleek.emulator.predictions import Prediction
from fleek.emulator.server import Emulator, serve
from fleek.engine import clock as engine_clock
from fleek.engine.admit import Admission
from fleek.engine.callback import receive
from fleek.engine.collect import collect
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.runtime import Runtime
from fleek.engine.start import intend, start, start_prediction
from fleek.engine.submit import submit
from fleek.engine.throttle import refresh_pauses
from fleek.engine.watch import Watch
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections
from fleek.providers.http import authorization, open_api
from fleek.providers.replicate.provider import AccountConfig, ReplicateProvider
from recovering import Recovering

MODEL: Final = ModelName("acme/painter:deployment")  # its parameters have no schema
DEADLINE: Final = timedelta(minutes=20)
HEARTBEAT: Final = timedelta(seconds=20)
TURN: Final = timedelta(seconds=50)  # no worker is suspended yet, although heartbeats are late
CALLBACK_LOST: Final = "unheard"  # marks prompts whose callbacks are lost
PREDICT_SECONDS: Final = 90
ATTEMPT_TIMEOUT: Final = timedelta(minutes=4)
PUBLIC_URL: Final = "http://127.0.0.1:1"
VERBS: Final = {"start": start, "collect": collect}


class AccountClock(emulated.Clock):
    """The account's clock, which is that of the test."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def now(self) -> float:
        """Return the time."""
        return self._clock().timestamp()


class Dispatched:
    """A dispatcher that only records ids."""

    def __init__(self) -> None:
        self.ids: deque[tuple[Task, JobId]] = deque()

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Record the id."""
        self.ids.append((task, job_id))

    async def consume(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Do nothing: the test handles the ids."""

    async def check(self) -> None:
        """Accept any id."""


@dataclass(slots=True)
class Wall:
    """A wall clock that is off by `shift`; it steps when that is changed."""

    clock: Clock
    shift: timedelta

    def __call__(self) -> datetime:
        """Return the displayed time."""
        return self.clock() + self.shift


class Process:
    """One process, with its own wall clock and provider."""

    def __init__(
        self, shared: Runtime, wall: Wall, provider: ReplicateProvider, *, boot: str
    ) -> None:
        self.wall, clock = wall, wall.clock
        self.clock = engine_clock.Clock(shared.db, wall=wall, steady=clock.steady, boot=boot)
        lease = WorkerLease(
            shared.db, heartbeat=HEARTBEAT, slots=8, now=self.clock, steady=clock.steady
        )
        self.rt = replace(
            shared,
            now=self.clock,
            clock=self.clock,
            steady=clock.steady,
            lease=lease,
            providers={"replicate": provider},
            pauses=type(shared.pauses)(),
        )
        self.watch = Watch(self.rt)
        self.admission = Admission(self.rt, clock=clock.steady)
        self.recovering = Recovering(self.rt)

    async def coordinate(self) -> None:
        """Run one turn of each loop of the coordinator."""
        await self.clock.steer()
        await self.recovering.turn()
        await self.watch.turn()
        await self.admission.turn()

    async def crash_while_starting(self, job_id: JobId) -> None:
        """Start a prediction, and crash before it is bound."""
        intended = await intend(self.rt, job_id)
        assert intended is not None
        await start_prediction(self.rt, *intended)


@dataclass(frozen=True, slots=True, eq=False)
class Callback:
    """A received signed callback."""

    token: str
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        """Return the body."""
        return self.body


@dataclass
class Installation:
    """All processes of an installation, and the account that they use."""

    shared: Runtime
    clock: Clock
    emulator: Emulator
    stack: AsyncExitStack
    callbacks: bool
    api: Process = field(init=False)
    worker: Process = field(init=False)
    coordinator: Process = field(init=False)
    received: list[Callback] = field(default_factory=list)
    refused: list[Callback] = field(default_factory=list)
    boots: int = 0
    _sent: set[tuple[str, str]] = field(default_factory=set)  # prediction and status

    @property
    def dispatched(self) -> Dispatched:
        """Return the ids that wait for a worker."""
        assert isinstance(self.shared.dispatcher, Dispatched)
        return self.shared.dispatcher

    async def begin(self, role: str, shift: timedelta = timedelta(0)) -> None:
        """Start the process of a role; an earlier one has crashed."""
        wall = Wall(self.clock, shift)
        boot = f"boot {self.boots}"
        process = Process(self.shared, wall, self._provider(wall), boot=boot)
        await process.clock.set()
        if role != "api":
            await process.rt.lease.register()
        setattr(self, role, process)

    async def reboot(self, role: str, shift: timedelta) -> None:
        """Restart the machine; the process whose clock is off starts first."""
        self.boots += 1
        await self.begin(role, shift)
        for other in {"api", "worker", "coordinator"} - {role}:
            await self.begin(other)

    async def submit(self, *prompts: str) -> list[JobId]:
        """Let the API accept jobs."""
        request = partial(a_request, provider="replicate", model=MODEL, deadline=DEADLINE)
        return [(await submit(self.api.rt, request(prompt))).id for prompt in prompts]

    async def turn(self) -> None:
        """Let some time pass; then each process runs one heartbeat and one turn."""
        self.clock.tick(seconds=TURN.total_seconds())
        for process in (self.api, self.worker, self.coordinator):
            await process.clock.set()
        for process in (self.worker, self.coordinator):
            await process.rt.lease.beat()
            await refresh_pauses(process.rt)
        await self.call_back()
        await self.coordinator.coordinate()
        await self.work()

    async def work(self) -> None:
        """Let the worker handle the dispatched ids."""
        ids = self.dispatched.ids
        while ids:
            task, job_id = ids.popleft()
            await VERBS[task](self.worker.rt, job_id)

    async def call_back(self) -> None:
        """Send the account's callbacks to the API; final ones are sent twice."""
        for prediction in self.emulator.account.predictions:
            status = prediction.status(self.emulator.account.now())
            news = (prediction.id, status)
            if (
                prediction.webhook is None
                or news in self._sent
                or CALLBACK_LOST in prompt(prediction)
            ):
                continue
            self._sent.add(news)
            message = write(self.emulator.account, prediction, {})
            headers = message.headers(self.emulator.account.now())
            callback = Callback(prediction.webhook.rpartition("/")[2], headers, message.body)
            for _ in range(2 if prediction.done(self.emulator.account.now()) else 1):
                await self.receive(callback)

    async def receive(self, callback: Callback) -> None:
        """Let the API receive a callback."""
        self.received.append(callback)
        try:
            await receive(
                self.api.rt,
                "replicate",
                callback.token,
                headers=callback.headers,
                read=callback.read,
            )
        except CallbackRejected:
            self.refused.append(callback)

    def _provider(self, wall: Wall) -> ReplicateProvider:
        url = self.emulator.api_url
        host = AllowedHost.of(url)
        policy = Policy(named=(host,), patterns=(), setting="REPLICATE_OUTPUT_HOSTS")
        files = Client(policy, Connections(policy, tls=trusted()), read=60.0)
        token = authorization("r8_clocks")
        api = open_api(url, headers=token, tls=trusted(), steady=self.clock.steady)
        base = f"{PUBLIC_URL}/webhooks/replicate" if self.callbacks else None
        config = AccountConfig(callback_base=base)
        provider = ReplicateProvider(api, files, config, now=wall, clock=self.clock.steady)
        for close in (api.close, files.close, provider.close, provider.schemas.close):
            self.stack.push_async_callback(close)
        return provider


def prompt(prediction: Prediction) -> str:
    """Return the prompt of a prediction."""
    return str(prediction.input["prompt"])


@asynccontextmanager
async def installed(rt: Runtime, clock: Clock, *, callbacks: bool) -> AsyncGenerator[Installation]:
    """Yield an installation without processes on the database and storage of `rt`."""
    plan = Plan(queue_seconds=0, predict_seconds=PREDICT_SECONDS, rates={"hook_drop": 1.0})
    changed = rt.settings.model_copy(update={"attempt_timeout": ATTEMPT_TIMEOUT})
    shared = replace(rt, settings=changed, dispatcher=Dispatched())
    async with serve(plan) as emulator, AsyncExitStack() as stack:
        emulator.account.clock = AccountClock(clock)
        yield Installation(shared, clock, emulator, stack, callbacks)
