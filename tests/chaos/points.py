"""Every failpoint of the code, with the scene in which it is reached and its actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Action = Literal["kill", "oserror", "dberror", "freeze"]
Scene = Literal["jobs", "late", "again", "dead", "stop", "old", "requests"]
"""The jobs of a service and further faults.

- ``jobs``: jobs with every result;
- ``late``: the provider's list is behind, so that callbacks find lost predictions, or come too late;
- ``again``: a job fails although it is paid for, and its result is collected again;
- ``dead``: another process was killed before, while it held jobs;
- ``stop``: the process receives SIGTERM while it collects;
- ``old``: there are an expired job and an orphaned file;
- ``requests``: callers upload a file and delete it, change tags, operate on many jobs, and name an
  address for webhooks.

In each scene, callers of two tenants use keys and idempotency keys, and receive webhooks.
"""

ERRORS: Final[tuple[Action, ...]] = ("oserror", "dberror")
ALL: Final[tuple[Action, ...]] = ("kill", *ERRORS)
FROZEN: Final[tuple[Action, ...]] = (*ALL, "freeze")
KILL: Final[tuple[Action, ...]] = ("kill",)
RETRIED: Final[tuple[Action, ...]] = ("kill", "dberror")  # the write path retries
HELD: Final[tuple[Action, ...]] = (*RETRIED, "freeze")
"""An error would leave a job held by a live worker. The points around raise it instead:
``start.send`` and ``output.spooled``."""


@dataclass(frozen=True, slots=True)
class Point:
    """A failpoint."""

    name: str
    scene: Scene = "jobs"
    actions: Sequence[Action] = ALL
    alone: bool = False  # catches errors of other points: not hit together with them


POINTS: Final = (
    Point("submitted.write"),
    Point("submitted.written"),
    Point("admit.dispatch"),
    Point("starting.write", actions=RETRIED),  # an error here loses a dispatch for half a minute
    Point("starting.written", actions=HELD),
    Point("start.send", actions=FROZEN),
    Point("start.sent", actions=FROZEN),
    Point("waiting.write", actions=FROZEN),
    Point("waiting.written"),
    Point("throttle.failed"),
    Point("throttle.started"),
    Point("deferred.write"),
    Point("deferred.written"),
    Point("failed.write"),
    Point("failed.written"),
    Point("unknown.write", alone=True),
    Point("unknown.written", alone=True),
    Point("watch.poll"),
    Point("predicted.write", actions=FROZEN),
    Point("predicted.written", actions=HELD),  # with the claim of the collect
    Point("collecting.write", actions=RETRIED),  # so does one here
    Point("collecting.written", actions=HELD),
    Point("output.spooled"),
    Point("output.stored", actions=FROZEN),
    Point("document.made"),
    Point("storage.place"),
    Point("storage.placed"),
    Point("completed.write", actions=FROZEN),
    Point("completed.written"),
    Point("postponed.write", actions=RETRIED),
    Point("postponed.written"),
    Point("collect.discard"),
    Point("released.write", scene="stop", actions=KILL),
    Point("released.written", scene="stop", actions=KILL),
    Point("cancelled.write"),
    Point("cancelled.written"),
    Point("recollecting.write", scene="again"),
    Point("recollecting.written", scene="again"),
    Point("recover.stop"),
    Point("recover.stopped"),
    Point("reconcile.find"),
    Point("reconcile.adopt", actions=FROZEN),
    Point("empty_look.write"),
    Point("empty_look.written"),
    Point("reconcile.empty"),
    Point("callback.verified"),
    Point("callback.adopt", scene="late"),
    Point("orphan.cancel", scene="late", actions=KILL),
    Point("recover.expire", scene="dead"),
    Point("recover.free", scene="dead"),
    Point("purged.write", scene="old"),
    Point("purged.written", scene="old"),
    Point("purge.delete", scene="old"),
    Point("erased.write", scene="old"),
    Point("erased.written", scene="old"),
    Point("retention.remove", scene="old"),
    Point("retention.removed", scene="old"),
    Point("orphan_file.delete", scene="old"),
    Point("updated.write", scene="requests"),
    Point("updated.written", scene="requests"),
    Point("bulk.advance", scene="requests"),
    Point("deliver.claimed"),
    Point("deliver.sent", actions=FROZEN),
    Point("deliver.reported"),
    Point("batch.created", scene="requests"),
    Point("batch.write", scene="requests"),
    Point("batch.written", scene="requests"),
    Point("upload.claimed", scene="requests"),
    Point("upload.stored", scene="requests"),
    Point("upload.delete", scene="requests"),
    Point("upload.deleted", scene="requests"),
    Point("inputs_ready.write", scene="requests"),
    Point("inputs_ready.written", scene="requests"),
    Point("leadership.acquire"),
    Point("leadership.release", scene="stop"),
    Point("heartbeat.register", actions=KILL),
    Point("heartbeat.write", actions=FROZEN),
    Point("heartbeat.end", scene="stop"),
    Point("worker.stop", scene="stop", actions=KILL),
    Point("worker.drained", scene="stop", actions=KILL),
    Point("database.commit", actions=FROZEN),
    Point("database.committed"),
)

NOT_SWEPT: Final = {
    "input_postponed": "the job is pending before and after; the sweep's inputs are all there",
    "progress": "a lost report of progress is followed by the next one",
    "out_of_budget": "no budget of the sweep is exhausted",
    "cancel_owed": "no prediction of the sweep runs for longer than an attempt may",
    "repeating": "the provider of the sweep does not know an attempt again",
    "rerouted": "the sweep has one provider; a storm with several crosses it",
    "rescheduled": "no clock is set back in the sweep",
}
"""Events with updates that no scene reaches, and the reasons."""

BY_NAME: Final = {point.name: point for point in POINTS}
EVERY_TIME: Final = (
    "database.commit",
    "database.committed",
)  # each hit is at another place
