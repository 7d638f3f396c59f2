"""Hits one failpoint after the other in a service, and checks the result."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.age import leave_old_ones, left_over
from chaos.callers import PAUSE_SECONDS, Callers
from chaos.checker import Terms, check
from chaos.host import Host
from chaos.points import BY_NAME, EVERY_TIME, POINTS, Action, Scene
from chaos.requests import Requests
from chaos.rig import SILENCE, Rig, state
from service_process import Process, until

JOBS: Final = {  # the fault of each at the provider
    "plain": "",
    "cancelled": "[[emu:predict=60]]",
    "transient": "[[emu:transient_failure]]",
    "lost": "[[emu:create_then_drop]][[emu:hook_drop]]",
    "not created": "[[emu:create_drop]]",
    "busy": "[[emu:create_429=1]]",
    "refused": "[[emu:create_422]]",
    "broken": "[[emu:file_truncate]]",
    "slow": "[[emu:file_slow=1200]]",
}
LATE: Final = {  # with a list that is behind
    "found": "[[emu:create_then_drop]]",
    "orphan": "[[emu:create_then_drop]][[emu:hook_delay=3]]",
}
AGAIN: Final = {  # which fails locally, and is collected again
    "regained": "[[emu:file_redirect_to*1]]"
}
STOPPING: Final = {"plain": "", "big": "[[emu:file_slow=1200]]"}
PLAIN: Final = {"plain": ""}
OF_SCENE: Final = {"late": LATE, "again": AGAIN, "stop": STOPPING, "old": PLAIN, "requests": PLAIN}
HELD: Final = {"long": "[[emu:predict=1]]", "big": "[[emu:file_slow=1200]]"}
BUSY: Final = "SELECT count(*) FROM jobs WHERE status = 'processing'"
KNOWN: Final = " AND stage <> 'unknown'"
COLLECTING: Final = "SELECT prompt FROM jobs WHERE stage = 'collecting' AND worker_id IS NOT NULL"
PATIENCE: Final = 20.0  # seconds after which callers stop waiting for stuck jobs
STRUCK: Final = 180.0  # until a point is reached, or a process works again, on a busy machine
COMMITS: Final = 24  # the first commits of a process, each of which is hit
REFUSED: Final = frozenset({"provider_invalid_input", "unsafe_output"})


@dataclass(frozen=True, slots=True)
class Leg:
    """One fault in a service."""

    orders: str  # for FLEEK_FAILPOINTS
    scene: Scene
    action: Action
    names: tuple[str, ...]
    spared: int = 0  # how many need not be reached: one error may bypass another

    @classmethod
    def of(cls, name: str, action: Action, at: str = "1") -> "Leg":
        """Hit one point."""
        return cls(f"{name}={action}@{at}", BY_NAME[name].scene, action, (name,))

    @classmethod
    def together(cls, action: Action, names: Sequence[str], *, at: int) -> "Leg":
        """Hit many points of one scene: each at its first hit, those of each commit later."""
        orders = ",".join(f"{name}={action}@{at if name in EVERY_TIME else 1}" for name in names)
        return cls(orders, BY_NAME[names[0]].scene, action, tuple(names), len(names) // 3)


def run_leg(rig: Rig, leg: Leg) -> None:
    """Apply one fault to a service, wait until it has occurred, and leave a working process.

    Raises:
        AssertionError: The point was not reached, or the service does not recover.
    """
    if leg.scene == "dead":
        _crash_with_jobs(rig)
    if leg.scene == "old":
        leave_old_ones(rig)
    if leg.scene == "late":
        rig.host.plan(rates={"list_omit": 1.0}, arguments={"list_omit": "4"})
    process = rig.launch(FLEEK_FAILPOINTS=leg.orders)
    helper = _helper(rig, process) if leg.action == "freeze" else None
    requests = Requests(rig) if leg.scene == "requests" else None
    callers = Callers(rig, dict(OF_SCENE.get(leg.scene, JOBS)))
    thread = threading.Thread(target=callers.run)
    thread.start()
    try:
        if leg.scene == "stop":
            _stop_while_collecting(rig, process)
        _await_hit(rig, process, leg)
    finally:
        rig.host.plan(rates={})
        if leg.scene == "stop" or leg.action == "kill" or process.popen.poll() is not None:
            process.wait()
            rig.launch()
        _let_finish(rig, callers, thread)
    if leg.scene == "old":
        until(lambda: not left_over(rig), why=lambda: f"{left_over(rig)}\n{rig.tails()}")
    if requests is not None:
        requests.close()
    if helper is not None:
        helper.stop()


def _let_finish(rig: Rig, callers: Callers, thread: threading.Thread) -> None:
    """Let the callers finish; remaining actions are done at the end."""
    deadline = time.monotonic() + PATIENCE
    while thread.is_alive() and not callers.ready.is_set() and _is_revived(rig):
        time.sleep(PAUSE_SECONDS)
    while thread.is_alive() and time.monotonic() < deadline and _is_busy(rig):
        time.sleep(PAUSE_SECONDS)
    callers.over.set()
    thread.join()
    callers.act()


def _is_revived(rig: Rig) -> bool:
    """Restart a service that an error has ended."""
    until(rig.revive, seconds=STRUCK, why=rig.tails)
    return True


def _is_busy(rig: Rig) -> bool:
    """Whether a job is in progress, in a working service, and need not wait for its callback."""
    _is_revived(rig)
    ((number,),) = rig.rows(BUSY if rig.host.finds_lost else f"{BUSY}{KNOWN}")
    return bool(number)


def _helper(rig: Rig, process: Process) -> Process:
    """Start a worker that takes over, unless the frozen one still holds a lock."""
    helper = rig.start("worker")
    until(
        lambda: state(process) == "T" or "worker_registered" in helper.log.read_text(),
        seconds=STRUCK,
        why=rig.tails,
    )
    return helper


def _crash_with_jobs(rig: Rig) -> None:
    """Kill a process that holds jobs."""
    process = rig.serve()
    callers = Callers(rig, dict(HELD))
    callers.run()
    until(lambda: rig.rows(COLLECTING), why=rig.tails)
    process.kill()


def _stop_while_collecting(rig: Rig, process: Process) -> None:
    until(lambda: rig.rows(COLLECTING), why=rig.tails)
    process.popen.send_signal(signal.SIGTERM)


def _await_hit(rig: Rig, process: Process, leg: Leg) -> None:
    def missing() -> set[str]:
        struck = process.log.read_text(errors="replace").splitlines()
        return {name for name in leg.names if f"failpoint {name} {leg.action}" not in struck}

    until(
        lambda: len(missing()) <= leg.spared,
        seconds=STRUCK,
        why=lambda: f"{leg.orders}: not reached: {sorted(missing())}\n{rig.tails()}",
    )
    if leg.action == "freeze":
        until(lambda: state(process) == "T", why=rig.tails)
        time.sleep(
            2.5 * SILENCE
        )  # long enough for the lease to expire, and for the work to be done
        os.kill(process.pid, signal.SIGCONT)


def plan(host: Host, *, seed: int) -> None:
    """Reset an emulator, with quick predictions."""
    host.reset(seed)
    host.plan(predict_seconds=(0.1, 0.3), queue_seconds=0.05, rates={}, injecting=True)


def run_legs(rig: Rig, legs: Sequence[Leg]) -> list[str]:
    """Apply several faults to one service, one after the other, then check the run."""
    for number, leg in enumerate(legs):
        for process in rig.processes:
            if number and process.popen.poll() is None:
                process.kill()
        run_leg(rig, leg)
    rig.quiesce(meanwhile=rig.revive)
    frozen = any(leg.action == "freeze" for leg in legs)
    late = any(leg.scene == "late" for leg in legs)
    return check(rig.evidence(), Terms(codes=REFUSED, orphans=frozen or late))


def all_legs() -> Iterator[Leg]:
    """Yield the whole sweep: each point with each of its actions, and every early commit."""
    for point in POINTS:
        for action in point.actions:
            yield Leg.of(point.name, action)
    for name in EVERY_TIME:
        for number in range(2, COMMITS + 1):
            yield Leg.of(name, "kill", str(number))
            yield Leg.of(name, "dberror", str(number))


def sample(seed: int, *, kills: int) -> list[Leg]:
    """Return a sample: some kills, then all errors at once."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    killing = [point.name for point in POINTS if point.scene == "jobs"]
    legs = [Leg.of(name, "kill") for name in chance.sample(killing, kills)]
    for action in ("oserror", "dberror"):
        possible = (one for one in POINTS if one.scene == "jobs" and action in one.actions)
        names = [one.name for one in possible if not one.alone]
        chosen = chance.sample(names, len(names) // 2)
        legs.append(Leg.together(action, chosen, at=chance.randint(8, 20)))
    return legs
