"""A storm: many clients, a provider with all faults, and crashing processes; then the check."""

import random
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from chaos import faults
from chaos.checker import Terms, check
from chaos.flood import Flood
from chaos.history import PATIENCE, Client
from chaos.host import FAL_SECONDS
from chaos.money import Money, money
from chaos.nemesis import Nemesis
from chaos.rig import STILL, Rig
from chaos.sightings import (
    BY_CALLBACK,
    BY_LIST,
    BY_SEARCH,
    ELSEWHERE,
    LONG_KILLS,
    must_see,
    sightings,
)
from chaos.tenants import NAMES, TenantSetup
from fleek.providers.replicate.poller import GONE_SECONDS
from service_process import until

HEARTBEAT: Final = 0.5
SETTINGS: Final = {
    "HEARTBEAT_SECONDS": str(HEARTBEAT),
    "RECONCILE_SECONDS": "3",
    "RETRY_BACKOFF_MAX": "1",
    "MAX_RETRY_ATTEMPTS": "12",
    "WORKER_CONCURRENCY": "32",
    "MAX_LIVE_JOBS": "12",
    "RATE_PER_MINUTE": "300",
}
CLIENTS: Final = 6
AHEAD: Final = 0.2  # of the jobs; how far callers may be ahead of the kills
LOOK_SECONDS: Final = 0.2
CANCELLED: Final = 0.2  # of the jobs, with genuine faults
HASTY: Final = 0.15  # of the requests, and each first one: nobody waits for its answer
HASTY_SECONDS: Final = 0.001
AGAIN: Final = 0.2  # of the accepted requests, which are repeated
MISUSED: Final = 0.05  # of the keys, which are used for another request
PEEKED: Final = 0.3  # of the jobs, which are requested by another tenant
WATCHED_SECONDS: Final = 0.5  # between two counts of unfinished jobs
ROUSED: Final = 120.0  # seconds until a restarted service responds, on a busy machine
ONE: Final = (("serve",),)
SPLIT: Final = (("serve", "--no-worker"), ("worker",), ("worker",))

PROBES: Final = (  # jobs that reach these states in any case
    "[[emu:create_then_drop]][[emu:hook_drop]]",
    "[[emu:create_then_delay=1.5]][[emu:hook_duplicate]]",
    "[[emu:create_drop]]",
    "[[emu:create_429=1]]",
    "[[emu:file_truncate]]",
    "[[emu:hook_wrong_signature]]",
)
PROBES_WILD: Final = ("[[emu:transient_failure]]", "[[emu:predict=20]]")
PROBES_LONG: Final = ("[[emu:create_then_timeout]]", "[[emu:huge_logs=20]]")
PROBES_LONG_WILD: Final = ("[[emu:vanish=1]]",)
STOPPED: Final = PROBES_WILD[1]  # is cancelled while it runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """The extent and the kinds of faults."""

    seed: int
    jobs: int
    kills: int
    minutes: float  # for submissions and kills; more on a slow machine
    wild: bool  # also failing predictions, cancels and long freezes; else only what costs nothing
    split: bool  # API and two workers, or one process
    polling: bool = False  # without callbacks
    by_callback: bool = False  # lost starts are found by their callbacks alone
    repeats: bool = False  # the provider's lost starts are repeated, not searched for
    several: bool = False  # two providers; jobs go on at the other one
    signed: bool = False  # outputs are signed
    thumbnails: bool = False  # small pictures are made at once

    @property
    def long(self) -> bool:
        """Whether it has to reach every state that is worth the time."""
        return self.kills >= LONG_KILLS

    @property
    def probes(self) -> list[str]:
        """Markers of jobs that reach a state in any case."""
        found = [*PROBES, *(PROBES_WILD if self.wild else ())]
        if self.long:
            found += [*PROBES_LONG, *(PROBES_LONG_WILD if self.wild else ())]
        return found

    @property
    def unseen(self) -> frozenset[str]:
        """States that this provider's jobs cannot reach."""
        return (BY_CALLBACK if self.polling else frozenset()) | (
            BY_SEARCH if self.repeats else BY_LIST if self.by_callback else frozenset()
        )

    @property
    def wanted(self) -> frozenset[str]:
        """States that a run has to reach because of what is switched on."""
        return (
            (ELSEWHERE if self.several else frozenset())
            | ({"output signed"} if self.signed else frozenset())
            | ({"thumbnail made"} if self.thumbnails else frozenset())
        )

    @property
    def patience(self) -> float:
        """Seconds after which submissions and kills end."""
        return max(self.minutes * 180, 600)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a storm."""

    storm: Storm
    violations: list[str]
    paid: Money
    jobs: int
    deeds: Mapping[str, int]
    seen: Mapping[str, int]  # states, and how often each was reached
    seconds: float

    @property
    def complaints(self) -> list[str]:
        """All violations by the service, and shortcomings of the run."""
        storm = self.storm
        found = list(self.violations)
        if self.jobs < storm.jobs or self.deeds.get("killed", 0) < storm.kills:
            killed = self.deeds.get("killed", 0)
            found.append(f"in {storm.minutes} minutes only {self.jobs} jobs and {killed} kills")
        required = must_see(kills=storm.kills, wild=storm.wild, split=storm.split)
        missing = sorted(
            one for one in required | storm.wanted if not (self.seen[one] or one in storm.unseen)
        )
        if missing:
            found.append(f"never seen: {', '.join(missing)}")
        return found


def run(rig: Rig, storm: Storm) -> Outcome:
    """Run the storm, end the faults, wait until the service is idle, and check.

    Raises:
        AssertionError: It did not become idle, or a process ended by itself.
    """
    if storm.polling:
        del rig.env["PUBLIC_URL"]
    begun = time.monotonic()
    spell = partial(_spell, rig, storm)
    spell("")
    freezes = {"nap": 2 * HEARTBEAT} | ({"freeze": 14 * HEARTBEAT} if storm.wild else {})
    nemesis = Nemesis(
        rig,
        SPLIT if storm.split else ONE,
        seed=storm.seed,
        kills=storm.kills,
        seconds=storm.minutes * 60,
        freezes=freezes,
        spell=spell,
    )
    crowd = _Crowd(rig, storm, lambda: nemesis.progress)
    until(rig.answers, seconds=ROUSED, why=rig.tails)
    for name in NAMES:
        rig.tenant(name)
    nemesis.begin()
    flood = rig.flood = Flood(rig, TenantSetup(rig, "flood", "").key())
    with _watching(rig), flood.running():
        crowd.submit_all()
    while nemesis.busy and time.monotonic() - begun < storm.patience:
        time.sleep(LOOK_SECONDS)
    nemesis.end()
    rig.host.calm()
    rig.receiver.calm()
    until(rig.answers, seconds=ROUSED, why=rig.tails)
    crowd.end()
    still = STILL + (GONE_SECONDS if storm.long and storm.wild else 0)
    rig.quiesce(still=still + (FAL_SECONDS if storm.by_callback else 0))
    evidence = rig.evidence()
    terms = Terms(
        codes=_codes(storm),
        orphans=storm.wild,
        unknown=storm.by_callback,
        repeats=storm.repeats,
        exact=not storm.wild and not storm.by_callback,
    )
    return Outcome(
        storm=storm,
        violations=check(evidence, terms),
        paid=money(evidence),
        jobs=len(evidence.jobs),
        deeds=nemesis.done,
        seen=sightings(evidence, nemesis.done),
        seconds=time.monotonic() - begun,
    )


def _codes(storm: Storm) -> frozenset[str]:
    """Return the errors that a job may fail with."""
    found = faults.FAILURES if storm.wild else frozenset()
    found |= faults.TIMEOUT if storm.wild and storm.several else frozenset()
    return found | (faults.UNKNOWN if storm.by_callback else frozenset())


@contextmanager
def _watching(rig: Rig) -> Generator[None]:
    """Count the unfinished jobs of each tenant repeatedly."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCHED_SECONDS):
            rig.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _spell(rig: Rig, storm: Storm, name: str) -> None:
    """Begin a spell of more faults; with no name, end it."""
    hung = storm.several and storm.wild
    plan = faults.plan(genuine=storm.wild, long=storm.long, spell=name, hung=hung)
    if storm.signed:  # C2PA leaves out what follows the end of a file
        plan["rates"].pop("output_padded", None)
    rig.host.plan(**plan)


@dataclass(slots=True)
class _Crowd:
    """Clients that submit at an even pace, and cancel some of their jobs at random moments.

    They wait for the kills: on a slow machine these take longer, and jobs are to be met by all.
    """

    rig: Rig
    storm: Storm
    killed: Callable[[], float]  # the share of the kills that is done
    accepted: list[str] = field(default_factory=list)
    _doubted: list[tuple[str, str]] = field(default_factory=list)
    """Tenants and jobs with cancellations without a response."""
    _probes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def submit_all(self) -> None:
        """Submit until enough jobs are accepted, or time is up."""
        self._probes += self.storm.probes * 2
        threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def end(self) -> None:
        """Repeat cancellations without a response; a repetition changes nothing."""
        clients = {name: self.rig.client(CLIENTS, name) for name in NAMES}
        for tenant, job_id in self._doubted:
            until(partial(clients[tenant].cancel, job_id), seconds=ROUSED, why=self.rig.tails)
        for client in clients.values():
            client.close()

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self.storm.seed}:{number}")  # noqa: S311 - repeatable
        client = self.rig.client(number, NAMES[number % len(NAMES)])
        other = self.rig.client(number, NAMES[(number + 1) % len(NAMES)])
        deadline = time.monotonic() + self.storm.patience
        pause = 0.85 * self.storm.minutes * 60 * CLIENTS / self.storm.jobs
        turn = 0
        while len(self.accepted) < self.storm.jobs and time.monotonic() < deadline:
            if len(self.accepted) / self.storm.jobs > self.killed() + AHEAD:
                time.sleep(LOOK_SECONDS)
                continue
            turn += 1
            probe = self._probe()
            prompt = f"client {number} turn {turn} of {self.storm.seed} {probe}".strip()
            key = f"{number // len(NAMES)}-{turn}"  # another tenant's client has the same one
            hasty = turn == 1 or chance.random() < HASTY
            first_seconds = HASTY_SECONDS if hasty else PATIENCE
            fields = self._models(turn)
            job_id = client.submit(prompt, key=key, first_seconds=first_seconds, **fields)
            if job_id is None:
                self._probes += [probe] if probe else []
                time.sleep(0.2)  # like a client without a response
                continue
            with self._lock:
                self.accepted.append(job_id)
            self._probe_promises(chance, client, other, job_id, prompt=prompt, key=key, turn=turn)
            time.sleep(chance.uniform(0, 2) * pause)
            wanted = probe == STOPPED or (self.storm.wild and chance.random() < CANCELLED)
            if wanted and not client.cancel(job_id):
                self._doubted.append((client.tenant, job_id))
        client.close()
        other.close()

    def _models(self, turn: int) -> dict[str, Any]:
        """Return the models of a request: those of the host, in either order."""
        models = self.rig.host.models
        return {"models": models[:: 1 if turn % 2 else -1]} if models else {}

    def _probe_promises(
        self,
        chance: random.Random,
        client: Client,
        other: Client,
        job_id: str,
        *,
        prompt: str,
        key: str,
        turn: int,
    ) -> None:
        """Repeat a request, use its key for another one, and request its job as another tenant."""
        if chance.random() < AGAIN:
            client.repeat(prompt, key=key, **self._models(turn))
        if chance.random() < MISUSED:
            client.misuse(f"not {prompt}", key=key)
        if chance.random() < PEEKED:
            other.peek(job_id, turn)
            other.list()

    def _probe(self) -> str:
        with self._lock:
            return self._probes.pop() if self._probes else ""
