"""Every failpoint of the code, with the scene in which it is reached and what may happen there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Action = Literal["kill", "oserror", "dberror", "freeze"]
Scene = Literal["jobs", "late", "again", "dead", "stop", "old"]
"""Which jobs there are and what else goes on.

- ``jobs``: jobs of every fate;
- ``late``: the provider's list is behind, so that callbacks find lost purchases, or come too late;
- ``again``: a job fails although it was paid for, and its result is collected again;
- ``dead``: another process was killed before, with jobs in its hands;
- ``stop``: the process is told to stop while it collects;
- ``old``: a job has been kept for long enough, and a file is there that no job stands for.
"""

ERRORS: Final[tuple[Action, ...]] = ("oserror", "dberror")
ALL: Final[tuple[Action, ...]] = ("kill", *ERRORS)
FROZEN: Final[tuple[Action, ...]] = (*ALL, "freeze")
KILL: Final[tuple[Action, ...]] = ("kill",)


@dataclass(frozen=True, slots=True)
class Point:
    """A failpoint."""

    name: str
    scene: Scene = "jobs"
    actions: Sequence[Action] = ALL
    alone: bool = False  # what catches errors of other points: not to be struck together with them


POINTS: Final = (
    Point("submit.insert"),
    Point("submit.inserted"),
    Point("admit.nudge"),
    Point("start.intend", actions=KILL),  # an error here is a lost nudge: half a minute
    Point("start.intended", actions=FROZEN),
    Point("buy.send", actions=FROZEN),
    Point("buy.sent", actions=FROZEN),
    Point("bind.write", actions=FROZEN),
    Point("bind.written"),
    Point("pace.failed"),
    Point("pace.sold"),
    Point("start.defer"),
    Point("start.refuse"),
    Point("start.doubt", alone=True),
    Point("watch.poll"),
    Point("conclude.write", actions=FROZEN),
    Point("conclude.written"),
    Point("collect.claim", actions=KILL),  # so is one here
    Point("collect.claimed", actions=FROZEN),
    Point("keep.spooled"),
    Point("keep.saved", actions=FROZEN),
    Point("document.spooled"),
    Point("storage.place"),
    Point("storage.placed"),
    Point("collect.complete", actions=FROZEN),
    Point("collect.completed"),
    Point("collect.postpone", actions=KILL),
    Point("collect.clear"),
    Point("collect.release", scene="stop", actions=KILL),
    Point("cancel.decide"),
    Point("cancel.decided"),
    Point("recollect.decide", scene="again"),
    Point("recollect.decided", scene="again"),
    Point("recover.stop"),
    Point("recover.stopped"),
    Point("settle.find"),
    Point("settle.adopt", actions=FROZEN),
    Point("settle.empty"),
    Point("callback.verified"),
    Point("callback.adopt", scene="late"),
    Point("orphan.cancel", scene="late", actions=KILL),
    Point("recover.bury", scene="dead"),
    Point("recover.free", scene="dead"),
    Point("recover.freed", scene="dead"),
    Point("purge.mark", scene="old"),
    Point("purge.marked", scene="old"),
    Point("purge.delete", scene="old"),
    Point("purge.erased", scene="old"),
    Point("purge.done", scene="old"),
    Point("expire.remove", scene="old"),
    Point("expire.removed", scene="old"),
    Point("sweep.delete", scene="old"),
    Point("role.take"),
    Point("role.drop", scene="stop"),
    Point("pulse.register", actions=KILL),
    Point("pulse.beat", actions=FROZEN),
    Point("pulse.end", scene="stop"),
    Point("worker.stop", scene="stop", actions=KILL),
    Point("worker.drained", scene="stop", actions=KILL),
    Point("database.commit", actions=FROZEN),
    Point("database.committed"),
)

BY_NAME: Final = {point.name: point for point in POINTS}
EVERY_TIME: Final = (
    "database.commit",
    "database.committed",
)  # each of whose hits is another place
