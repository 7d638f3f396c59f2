"""Kills, freezes and stops the processes of a service at moments chosen by a seed."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos.hardship import ELSEWHERE, hardship, restore_limits, set_clock, starve
from chaos.rig import Rig
from service_process import Process

DEEDS: Final[Mapping[str, int]] = {  # how many of twenty-seven are of each kind
    "kill": 11,
    "kill_all": 1,
    "kill_young": 1,
    "nap": 2,
    "freeze": 3,
    "stop": 1,
    "stop_starting": 1,
    "throttled": 1,
    "outage": 1,
    "starve": 1,
    "remove": 1,
    "step": 2,
    "unheard": 1,
}
KILLS: Final = frozenset({"kill", "kill_all"})
CLEAN_EXITS: Final = frozenset({0, -signal.SIGTERM})  # ended by SIGTERM before its handler was set
SHUTDOWN_SECONDS: Final = 120.0
LAUNCH_SECONDS: Final = 120.0  # until a process has started, on a busy machine
LOOK_SECONDS: Final = 0.05  # between two checks of that
YOUNG_SECONDS: Final = 1.5  # the longest time until a kill during a start
AWAY_SECONDS: Final = 5.0  # duration of outages of files, descriptors, a provider, webhooks


class Nemesis:
    """One thread that causes faults, and ends them.

    Args:
        rig: The service.
        cast: The commands that make up the installation; each is one process at a time.
        seed: Decides what is done, to whom and when.
        kills: How many processes are killed in all.
        seconds: Over how long.
        freezes: How long a process is frozen by ``nap`` and by ``freeze``, at most; None: never.
        spell: Begins one of `faults.SPELLS`, or with "" ends it.
    """

    def __init__(
        self,
        rig: Rig,
        cast: Sequence[Sequence[str]],
        *,
        seed: int,
        kills: int,
        seconds: float,
        freezes: Mapping[str, float],
        spell: Callable[[str], None],
    ) -> None:
        self.done: Counter[str] = Counter()
        self._rig = rig
        self._cast = cast
        self._chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._kills = kills
        self._pause = seconds / max(kills, 1) * 0.5  # other faults take their time, too
        self._freezes = freezes
        self._spell = spell
        self._procs = [self._start(number) for number in range(len(cast))]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Begin to cause faults."""
        self._thread.start()

    def end(self) -> None:
        """Stop the faults, and check that every process runs.

        Raises:
            AssertionError: A process ended by itself.
        """
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        for number, process in enumerate(self._procs):
            if process.popen.poll() is not None:
                self._renew(number)

    @property
    def busy(self) -> bool:
        """Whether there are further kills."""
        return self._thread.is_alive()

    @property
    def progress(self) -> float:
        """The share of the kills that is done, 0.0-1.0; 1.0 also if there are none to come."""
        return self.done["killed"] / max(self._kills, 1) if self.busy else 1.0

    def _run(self) -> None:
        try:
            while self.done["killed"] < self._kills and not self._over.is_set():
                self._over.wait(self._chance.uniform(0.3, 1.7) * self._pause)
                deed = self._chance.choices([*DEEDS], [*DEEDS.values()])[0]
                self._do(deed, self._chance.randrange(len(self._procs)))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error

    def _do(self, deed: str, number: int) -> None:
        self._check_running()
        self.done[deed] += 1
        match deed:
            case "kill" | "kill_all":
                self._kill([number] if deed == "kill" else range(len(self._procs)))
            case "kill_young":
                self._kill_young(number)
            case "stop":
                self._stop(number)
                self._renew(number)
            case "stop_starting":
                self._stop_starting(number)
            case "throttled" | "outage":
                self._suffer(deed, 1 if deed == "throttled" else AWAY_SECONDS)
            case "starve":
                self._starve(number)
            case "remove":
                self._remove()
            case "unheard":
                self._stop_receiver()
            case "step":
                set_clock(self._chance, self._clock(number))
            case _:
                self._freeze(number, self._freezes.get(deed, 0))

    def _kill(self, numbers: Sequence[int]) -> None:
        """Kill processes that have started; kills before that are counted separately."""
        ready = [self._await_ready(number) for number in numbers]
        for number, started in zip(numbers, ready, strict=True):
            self._procs[number].kill()
            self.done["killed" if started else "killed before it had started"] += 1
        for number in numbers:
            self._renew(number)

    def _kill_young(self, number: int) -> None:
        for wait in (0, self._chance.uniform(0, YOUNG_SECONDS)):
            self._over.wait(wait)
            self._procs[number].kill()
            self._renew(number)

    def _await_ready(self, number: int) -> bool:
        deadline = time.monotonic() + LAUNCH_SECONDS
        while not self._rig.is_ready(self._procs[number]):
            self._check_running()
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _stop_starting(self, number: int) -> None:
        """Stop a process while the provider takes longer to respond than it may wait."""
        self._await_ready(number)
        self._spell("late")
        self._over.wait(2)
        self._procs[number].popen.send_signal(signal.SIGTERM)
        self._spell("")
        self._stop(number)
        self._renew(number)

    def _suffer(self, spell: str, seconds: float) -> None:
        self._spell(spell)
        self._over.wait(seconds)
        self._spell("")

    def _stop_receiver(self) -> None:
        """Stop the receiver of webhooks for a while."""
        with self._rig.receiver.away():
            self._over.wait(AWAY_SECONDS)

    def _starve(self, number: int) -> None:
        self._await_ready(number)
        pid = self._procs[number].pid
        limits = starve(pid)
        self._over.wait(self._chance.uniform(0.5, 1) * AWAY_SECONDS)
        restore_limits(pid, limits)

    def _remove(self) -> None:
        """Run a worker without the provider for a while."""
        workers = [n for n, command in enumerate(self._cast) if command[0] == "worker"]
        for number in self._chance.sample(workers, min(len(workers), 1)):
            self._stop(number)
            self._procs[number] = self._rig.start(*self._cast[number], **ELSEWHERE)
            self._await_ready(number)
            self._over.wait(AWAY_SECONDS)
            self._stop(number)
            self._renew(number)

    def _stop(self, number: int) -> None:
        """Send SIGTERM, with a long time-out for busy machines."""
        process = self._procs[number]
        process.popen.send_signal(signal.SIGTERM)
        process.popen.wait(SHUTDOWN_SECONDS)
        code = process.wait()
        late = "not_stopped_in_time" in process.tail()  # the machine is busy: as a crash
        assert code in CLEAN_EXITS or late, f"exit code {code}: {process.tail()}"

    def _freeze(self, number: int, seconds: float) -> None:
        process = self._procs[number]
        os.kill(process.pid, signal.SIGSTOP)
        self._over.wait(self._chance.uniform(0.6, 1) * seconds)
        os.kill(process.pid, signal.SIGCONT)

    def _check_running(self) -> None:
        for process in self._procs:
            assert process.popen.poll() is None, f"{process.command} ended: {process.tail()}"

    def _renew(self, number: int) -> None:
        self._procs[number] = self._start(number)

    def _start(self, number: int) -> Process:
        command = self._cast[number]
        env = hardship(self._chance, command, self._clock(number))
        return self._rig.start(*command, **env)

    def _clock(self, number: int) -> Path:
        return self._rig.folder / f"clock-{number}"
