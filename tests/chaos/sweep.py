"""Hurts a service at one failpoint after the other, and makes sure that all comes out right."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from chaos.checker import Terms, check
from chaos.history import Client
from chaos.points import BY_NAME, EVERY_TIME, POINTS, Action, Scene
from chaos.rig import SILENCE, Rig, state
from service import Process, until

JOBS: Final = {  # what goes wrong with each at the provider
    "plain": "",
    "cancelled": "[[emu:predict=60]]",
    "transient": "[[emu:transient_failure]]",
    "lost": "[[emu:create_then_drop]][[emu:hook_drop]]",
    "unsold": "[[emu:create_drop]]",
    "busy": "[[emu:create_429=1]]",
    "refused": "[[emu:create_422]]",
    "broken": "[[emu:file_truncate]]",
    "slow": "[[emu:file_slow=1200]]",
}
LATE: Final = {  # with a list that is behind
    "found": "[[emu:create_then_drop]]",
    "orphan": "[[emu:create_then_drop]][[emu:hook_delay=3]]",
}
STOPPING: Final = {"plain": "", "big": "[[emu:file_slow=1200]]"}
HELD: Final = {"long": "[[emu:predict=1]]", "big": "[[emu:file_slow=1200]]"}
COLLECTING: Final = "SELECT prompt FROM jobs WHERE stage = 'collecting' AND worker_id IS NOT NULL"
PROCESSING: Final = "SELECT prompt FROM jobs WHERE status = 'processing' AND stage = 'waiting'"
PATIENCE: Final = 20.0
REFUSED: Final = frozenset({"provider_invalid_input"})

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Leg:
    """One thing that is done to a service."""

    orders: str  # for FLEEK_FAILPOINTS
    scene: Scene
    action: Action
    names: tuple[str, ...]  # what must be struck

    @classmethod
    def of(cls, name: str, action: Action, at: str = "1") -> "Leg":
        """Strike one point."""
        return cls(f"{name}={action}@{at}", BY_NAME[name].scene, action, (name,))

    @classmethod
    def together(cls, action: Action, names: Sequence[str]) -> "Leg":
        """Strike many points of one scene, each at its first hit."""
        orders = ",".join(f"{name}={action}" for name in names)
        return cls(orders, BY_NAME[names[0]].scene, action, tuple(names))


@dataclass(slots=True)
class Callers:
    """Submit a scene's jobs, and cancel some when their moment has come."""

    rig: Rig
    jobs: dict[str, str]
    over: threading.Event = field(default_factory=threading.Event)
    ids: dict[str, str] = field(default_factory=dict)  # by prompt
    late: dict[str, str] = field(default_factory=dict)  # prompts to cancel, and the query of when

    def run(self) -> None:
        """Submit all, whoever dies meanwhile, and cancel until an answer comes."""
        client = Client(self.rig, self.rig.history, 0)
        try:
            for name, faults in self.jobs.items():
                prompt = f"{name} {next(_numbers)} {faults}".strip()
                job_id = client.submit(prompt)
                if job_id is not None:
                    self.ids[prompt] = job_id
            self._cancel(client)
        finally:
            client.close()

    def _cancel(self, client: Client) -> None:
        wanted = {
            prompt: COLLECTING if prompt.startswith("slow") else PROCESSING
            for prompt in self.ids
            if prompt.startswith(("slow", "cancelled"))
        }
        while wanted and not self.over.is_set():
            for prompt, moment in tuple(wanted.items()):
                ready = self.over.is_set() or (prompt,) in self.rig.rows(moment)
                if ready and client.cancel(self.ids[prompt]):
                    del wanted[prompt]
            time.sleep(0.02)  # between two looks


def run_leg(rig: Rig, leg: Leg) -> None:
    """Do one thing to a service and wait until it is struck; leaves a process that is well.

    Raises:
        AssertionError: It was never reached, or the service does not get over it.
    """
    if leg.scene == "dead":
        _leave_a_dead_one(rig)
    if leg.scene == "late":
        rig.host.plan(rates={"list_omit": 1.0}, arguments={"list_omit": "4"})
    process = rig.launch(FLEEK_FAILPOINTS=leg.orders)
    helper = rig.worker() if leg.action == "freeze" else None
    callers = Callers(rig, dict({"late": LATE, "stop": STOPPING}.get(leg.scene, JOBS)))
    thread = threading.Thread(target=callers.run)
    thread.start()
    try:
        if leg.scene == "stop":
            _stop_while_collecting(rig, process)
        _await_strike(rig, process, leg)
    finally:
        rig.host.plan(rates={})
        if leg.scene == "stop" or leg.action == "kill":
            process.wait()
            rig.launch()
        _see_out(rig, callers, thread)
    if helper is not None:
        helper.stop()


def _see_out(rig: Rig, callers: Callers, thread: threading.Thread) -> None:
    deadline = time.monotonic() + PATIENCE
    while thread.is_alive() and time.monotonic() < deadline and rig.by_status()["processing"]:
        time.sleep(0.05)  # until what is to be cancelled is, or everything has ended
    callers.over.set()
    thread.join()
    client = Client(rig, rig.history, 1)
    for prompt, job_id in callers.ids.items():
        if prompt.startswith("cancelled"):
            assert client.cancel(job_id)
    client.close()


def _leave_a_dead_one(rig: Rig) -> None:
    """Kill a process that holds jobs."""
    process = rig.serve()
    callers = Callers(rig, dict(HELD))
    callers.run()
    until(lambda: rig.rows(COLLECTING), why=rig.tails)
    process.kill()


def _stop_while_collecting(rig: Rig, process: Process) -> None:
    until(lambda: rig.rows(COLLECTING), why=rig.tails)
    process.popen.send_signal(signal.SIGTERM)


def _await_strike(rig: Rig, process: Process, leg: Leg) -> None:
    wanted = {f"failpoint {name} {leg.action}" for name in leg.names}
    until(
        lambda: wanted <= set(process.log.read_text(errors="replace").splitlines()),
        seconds=PATIENCE,
        why=lambda: f"{leg.orders} was not reached\n{rig.tails()}",
    )
    if leg.action == "freeze":
        until(lambda: state(process) == "T", why=rig.tails)
        time.sleep(2.5 * SILENCE)  # long enough to be taken for dead, and for the work to be done
        os.kill(process.pid, signal.SIGCONT)


def run_legs(rig: Rig, legs: Sequence[Leg]) -> list[str]:
    """Do several things to one service, one after the other, then judge it."""
    for number, leg in enumerate(legs):
        if number:
            rig.processes[-1].kill()
        run_leg(rig, leg)
    rig.quiesce(seconds=PATIENCE)
    frozen = any(leg.action == "freeze" for leg in legs)
    late = any(leg.scene == "late" for leg in legs)
    return check(rig.evidence(), Terms(codes=REFUSED, orphans=frozen or late))


def all_legs() -> Iterator[Leg]:
    """Return the whole sweep: each point with each of its actions, and every early commit."""
    for point in POINTS:
        for action in point.actions:
            yield Leg.of(point.name, action)
    for name in EVERY_TIME:
        for number in range(2, 25):
            yield Leg.of(name, "kill", str(number))
            yield Leg.of(name, "dberror", str(number))


def sample(seed: int, *, kills: int) -> list[Leg]:
    """Return a sample: so many kills, and all errors at once."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    killing = [point.name for point in POINTS if point.scene == "jobs"]
    legs = [Leg.of(name, "kill") for name in chance.sample(killing, kills)]
    for action in ("oserror", "dberror"):
        names = [one.name for one in POINTS if one.scene == "jobs" and action in one.actions]
        legs.append(Leg.together(action, chance.sample(names, len(names) // 2)))
    return legs
