"""Hurts a service at one failpoint after the other, and makes sure that all comes out right."""

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from chaos.age import leave_old_ones, left_over
from chaos.checker import Terms, check
from chaos.history import Client
from chaos.host import Host
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
OF_SCENE: Final = {"late": LATE, "stop": STOPPING, "old": {"plain": ""}}
HELD: Final = {"long": "[[emu:predict=1]]", "big": "[[emu:file_slow=1200]]"}
COLLECTING: Final = "SELECT prompt FROM jobs WHERE stage = 'collecting' AND worker_id IS NOT NULL"
LISTED: Final = "SELECT prompt, id, stage, worker_id FROM jobs"
PATIENCE: Final = 20.0
PAUSE_SECONDS: Final = 0.1  # between two looks at the database
REFUSED: Final = frozenset({"provider_invalid_input"})

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Leg:
    """One thing that is done to a service."""

    orders: str  # for FLEEK_FAILPOINTS
    scene: Scene
    action: Action
    names: tuple[str, ...]
    spared: int = 0  # how many of them need not be reached: one error may lead past another

    @classmethod
    def of(cls, name: str, action: Action, at: str = "1") -> "Leg":
        """Strike one point."""
        return cls(f"{name}={action}@{at}", BY_NAME[name].scene, action, (name,))

    @classmethod
    def together(cls, action: Action, names: Sequence[str], *, at: int) -> "Leg":
        """Strike many points of one scene: each at its first hit, those of each commit later."""
        orders = ",".join(f"{name}={action}@{at if name in EVERY_TIME else 1}" for name in names)
        return cls(orders, BY_NAME[names[0]].scene, action, tuple(names), len(names) // 3)


@dataclass(slots=True)
class Callers:
    """Submit a scene's jobs, and cancel some when their moment has come."""

    rig: Rig
    jobs: dict[str, str]
    over: threading.Event = field(default_factory=threading.Event)
    prompts: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Submit all, whoever dies meanwhile, and cancel until an answer comes."""
        client = Client(self.rig, self.rig.history, 0)
        try:
            for name, faults in self.jobs.items():
                prompt = f"{name} {next(_numbers)} {faults}".strip()
                client.submit(prompt)
                self.prompts.append(prompt)
            self.cancel(client)
        finally:
            client.close()

    def cancel(self, client: Client) -> None:
        """Cancel each job that is to be, at its moment or when all is over.

        That one whose submit was not answered is there, its caller would see in the list.
        """
        wanted = [one for one in self.prompts if one.startswith(("slow", "cancelled"))]
        while wanted:
            late = self.over.is_set()
            found = self._listed()
            for prompt in tuple(wanted):
                job_id, stage, held = found.get(prompt, (None, None, None))
                if prompt.startswith("slow"):
                    ready = stage == "collecting" and held is not None
                else:
                    ready = stage == "waiting"
                gone = job_id is None and late
                if gone or ((ready or late) and client.cancel(str(UUID(str(job_id))))):
                    wanted.remove(prompt)
            if late and wanted:
                return
            time.sleep(PAUSE_SECONDS)

    def _listed(self) -> dict[str, list[Any]]:
        try:
            return {prompt: rest for prompt, *rest in self.rig.rows(LISTED)}
        except (sqlite3.OperationalError, asyncpg.UndefinedTableError):
            return {}  # it was hurt before it had tables


def run_leg(rig: Rig, leg: Leg) -> None:
    """Do one thing to a service and wait until it is struck; leaves a process that is well.

    Raises:
        AssertionError: It was never reached, or the service does not get over it.
    """
    if leg.scene == "dead":
        _leave_a_dead_one(rig)
    if leg.scene == "old":
        leave_old_ones(rig)
    if leg.scene == "late":
        rig.host.plan(rates={"list_omit": 1.0}, arguments={"list_omit": "4"})
    process = rig.launch(FLEEK_FAILPOINTS=leg.orders)
    helper = _helper(rig, process) if leg.action == "freeze" else None
    callers = Callers(rig, dict(OF_SCENE.get(leg.scene, JOBS)))
    thread = threading.Thread(target=callers.run)
    thread.start()
    try:
        if leg.scene == "stop":
            _stop_while_collecting(rig, process)
        _await_strike(rig, process, leg)
    finally:
        rig.host.plan(rates={})
        if leg.scene == "stop" or leg.action == "kill" or process.popen.poll() is not None:
            process.wait()
            rig.launch()
        _see_out(rig, callers, thread)
    if leg.scene == "old":
        until(lambda: not left_over(rig), why=lambda: f"{left_over(rig)}\n{rig.tails()}")
    if helper is not None:
        helper.stop()


def _see_out(rig: Rig, callers: Callers, thread: threading.Thread) -> None:
    """Let the callers finish; what they could not cancel in time is cancelled now."""
    until(rig.answers, seconds=3 * PATIENCE, why=rig.tails)
    deadline = time.monotonic() + PATIENCE
    while thread.is_alive() and time.monotonic() < deadline and rig.by_status()["processing"]:
        time.sleep(PAUSE_SECONDS)
    callers.over.set()
    thread.join()
    client = Client(rig, rig.history, 1)
    callers.cancel(client)
    client.close()


def _helper(rig: Rig, process: Process) -> Process:
    """Start a worker that takes over; one that is frozen already has left no tables, perhaps."""
    return rig.start("worker") if state(process) == "T" else rig.worker()


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
    def missing() -> set[str]:
        struck = process.log.read_text(errors="replace").splitlines()
        return {name for name in leg.names if f"failpoint {name} {leg.action}" not in struck}

    until(
        lambda: len(missing()) <= leg.spared,
        seconds=3 * PATIENCE,
        why=lambda: f"{leg.orders}: not reached: {sorted(missing())}\n{rig.tails()}",
    )
    if leg.action == "freeze":
        until(lambda: state(process) == "T", why=rig.tails)
        time.sleep(2.5 * SILENCE)  # long enough to be taken for dead, and for the work to be done
        os.kill(process.pid, signal.SIGCONT)


def plan(host: Host, *, seed: int) -> None:
    """Let an emulator begin anew, and be quick."""
    host.reset(seed)
    host.plan(predict_seconds=(0.1, 0.3), queue_seconds=0.05, rates={}, injecting=True)


def run_legs(rig: Rig, legs: Sequence[Leg]) -> list[str]:
    """Do several things to one service, one after the other, then judge it."""
    for number, leg in enumerate(legs):
        if number:
            rig.processes[-1].kill()
        run_leg(rig, leg)
    rig.quiesce()
    frozen = any(leg.action == "freeze" for leg in legs)
    late = any(leg.scene == "late" for leg in legs)
    return check(rig.evidence(), Terms(codes=REFUSED, orphans=frozen or late))


def all_legs() -> Iterator[Leg]:
    """Return the whole sweep: each point with each of its actions, and every early commit."""
    for point in POINTS:
        for action in point.actions:
            yield Leg.of(point.name, action)
    for name in EVERY_TIME:
        for number in range(2, 16):
            yield Leg.of(name, "kill", str(number))
            yield Leg.of(name, "dberror", str(number))


def sample(seed: int, *, kills: int) -> list[Leg]:
    """Return a sample: so many kills, and all errors at once."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    killing = [point.name for point in POINTS if point.scene == "jobs"]
    legs = [Leg.of(name, "kill") for name in chance.sample(killing, kills)]
    for action in ("oserror", "dberror"):
        possible = (one for one in POINTS if one.scene == "jobs" and action in one.actions)
        names = [one.name for one in possible if not one.alone]
        chosen = chance.sample(names, len(names) // 2)
        legs.append(Leg.together(action, chosen, at=chance.randint(8, 20)))
    return legs
