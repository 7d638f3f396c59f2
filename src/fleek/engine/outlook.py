"""One look for all loops of the coordinator, so that a service with nothing to do does next to nothing.

Each loop asks by itself once or twice a second whether there is work, since other processes write it
too: sixteen statements a second, 2 % of a core, in every installation that sleeps. Here one statement
asks for all of them. A loop for which nothing waits sleeps longer; it is woken when something does.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from fleek.engine.loops import Topic
from fleek.engine.runtime import Runtime
from fleek.store import outlook

PACE: Final = timedelta(seconds=1)  # between two looks; what another process writes waits so long
QUIET: Final = timedelta(seconds=15)  # between turns of a loop for which nothing waits
IDLE: Final = timedelta(seconds=0.5)  # a loop that wants to wait for less has more to do

KINDS: Final[Mapping[Topic, frozenset[str]]] = {
    "admit": frozenset({"pending", "collecting"}),
    "watch": frozenset({"held", "bound"}),  # what is held may become bound at any time
    "failover": frozenset({"routed"}),
    "chain": frozenset({"linked"}),
    "deliver": frozenset({"owed"}),
    "bulk": frozenset({"bulk"}),
    "expire": frozenset({"purging", "removing"}),
}
"""The rows that each loop works on; loops without an entry keep their own pace."""


class Outlook:
    """The turns of the loop `outlook` during one leadership, and how long others sleep by it."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._known: frozenset[Topic] = frozenset(KINDS)  # by the last look that did not fail
        self._awaited = self._known  # not known: all keep their pace

    async def turn(self) -> timedelta:
        """Look what waits, and wake the loops that slept; returns the time until the next look."""
        self._awaited = frozenset(KINDS)  # if this look fails; those that sleep now stay asleep
        kinds = await outlook.waiting_kinds(self._rt.db)
        before, self._known = self._known, _topics(kinds)
        self._awaited = self._known
        for topic in self._known - before:
            self._rt.wakeups.notify(topic)
        return PACE

    def rest(self, topic: Topic, wait: timedelta) -> timedelta:
        """Return how long a loop may sleep that wants to wait for so long."""
        if topic in self._awaited or topic not in KINDS or wait < IDLE:
            return wait
        return max(wait, QUIET)


def _topics(kinds: frozenset[str]) -> frozenset[Topic]:
    return frozenset(topic for topic, own in KINDS.items() if own & kinds)
