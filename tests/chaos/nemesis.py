"""Kills, freezes and stops the processes of a service at moments that a seed decides."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from chaos.rig import Rig
from service import Process

DEEDS: Final[Mapping[str, int]] = {  # how many of twenty are of each kind
    "kill": 11,
    "kill_all": 1,
    "nap": 2,
    "freeze": 4,
    "stop": 1,
    "throttle": 1,
}
KILLS: Final = frozenset({"kill", "kill_all"})
GOODBYES: Final = frozenset({0, -signal.SIGTERM})  # told before it listened: it simply ended
FAREWELL_SECONDS: Final = 120.0
LAUNCH_SECONDS: Final = 2.0  # a process that lives shorter has hurt nobody


class Nemesis:
    """One thread that hurts, and mends at the end.

    Args:
        rig: The service.
        cast: The commands that make up the installation; each is one process at a time.
        seed: Decides what is done, to whom and when.
        kills: How many processes are killed in all.
        seconds: Over how long.
        freezes: How long a process is frozen by ``nap`` and by ``freeze``, at most; None: never.
        throttle: Turns a storm of refusals on and off.
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
        throttle: Callable[[bool], None],
    ) -> None:
        self.done: Counter[str] = Counter()
        self._rig = rig
        self._cast = cast
        self._chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._kills = kills
        self._pause = seconds / max(kills, 1) * 0.5  # other deeds take their time too
        self._freezes = freezes
        self._throttle = throttle
        self._procs = [self._start(command) for command in cast]
        self._born = [time.monotonic()] * len(cast)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Begin to hurt."""
        self._thread.start()

    def end(self) -> None:
        """Stop hurting, and see that every process runs and answers.

        Raises:
            AssertionError: A process ended by itself.
        """
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        for number, process in enumerate(self._procs):
            if process.popen.poll() is not None:
                self._replace(number)

    @property
    def busy(self) -> bool:
        """Whether there are kills to come."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self.done["killed"] < self._kills and not self._over.is_set():
                self._over.wait(self._chance.uniform(0.3, 1.7) * self._pause)
                deed = self._chance.choices([*DEEDS], [*DEEDS.values()])[0]
                self._do(deed, self._chance.randrange(len(self._procs)))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error

    def _do(self, deed: str, number: int) -> None:
        self._see_alive()
        self.done[deed] += 1
        match deed:
            case "kill":
                self._kill([number])
            case "kill_all":
                self._kill(range(len(self._procs)))
            case "stop":
                process = self._procs[number]
                code = self._stop(process)
                late = "not_stopped_in_time" in process.tail()  # the machine is busy: as a crash
                assert code in GOODBYES or late, f"exit code {code}: {process.tail()}"
                self._replace(number)
            case "throttle":
                self._throttle(True)  # noqa: FBT003 - on, and off
                self._over.wait(1)
                self._throttle(False)  # noqa: FBT003 - on, and off
            case _:
                self._freeze(number, self._freezes.get(deed, 0))

    def _kill(self, numbers: Sequence[int]) -> None:
        youngest = max(self._born[number] for number in numbers)
        self._over.wait(max(LAUNCH_SECONDS - (time.monotonic() - youngest), 0))
        for number in numbers:
            self._procs[number].kill()
            self.done["killed"] += 1
        for number in numbers:
            self._replace(number)

    def _stop(self, process: Process) -> int:
        """Tell it to end, and give it time: the machine may be busy."""
        process.popen.send_signal(signal.SIGTERM)
        process.popen.wait(FAREWELL_SECONDS)
        return process.wait()

    def _freeze(self, number: int, seconds: float) -> None:
        process = self._procs[number]
        os.kill(process.pid, signal.SIGSTOP)
        self._over.wait(self._chance.uniform(0.6, 1) * seconds)
        os.kill(process.pid, signal.SIGCONT)

    def _see_alive(self) -> None:
        for process in self._procs:
            assert process.popen.poll() is None, f"{process.command} ended: {process.tail()}"

    def _replace(self, number: int) -> None:
        self._procs[number] = self._start(self._cast[number])
        self._born[number] = time.monotonic()

    def _start(self, command: Sequence[str]) -> Process:
        return self._rig.start(*command)
