"""States that make a run worth its time: which were reached, and which have to be."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from chaos.evidence import Evidence

ALWAYS: Final = frozenset({"adopted by list", "not bought after all"})  # whoever dies, and when
LONG: Final = frozenset(  # states that need some minutes, or luck
    {
        "adopted by callback",
        "429 deferred",
        "download retried",
        "worker buried",
        "forged callback refused",
        "duplicate callback taken",
        "purchase of a dead worker settled",
        "files of a dead worker collected",
        "role changed hands",
    }
)
LONG_WILD: Final = frozenset(
    {
        "cancel won",
        "cancel lost",
        "prediction stopped",
        "attempt retried",
        "zombie came back",
        "zombie lost the race",
    }
)
LONG_KILLS: Final = 40  # from so many on a run counts as long, and has to reach all of them


def must_see(*, kills: int, wild: bool) -> frozenset[str]:
    """Return the states that a run has to reach: else it has shown nothing."""
    if kills < LONG_KILLS:
        return ALWAYS
    return ALWAYS | LONG | (LONG_WILD if wild else frozenset())


def sightings(evidence: Evidence) -> dict[str, int]:
    """Count the states that make a run worth its time."""
    events = [event for events in evidence.events.values() for event in events]
    codes = Counter(str(e.data.get("code")) for e in events if e.type == "deferred")
    reasons = Counter((event.type, str(event.data.get("reason"))) for event in events)
    types = Counter(event.type for event in events)
    logs = Counter((str(row["event"]), str(row.get("by", ""))) for row in evidence.logs)
    cancels = Counter(row["status"] for row in evidence.history if _is(row, "cancel", "ok"))
    hooks = Counter((fault, _kind(row)) for row in evidence.webhooks for fault in row["faults"])
    verdicts = Counter(attempt.verdict for attempt in evidence.attempts)
    return {
        "adopted by list": logs["adopted", "list"],
        "adopted by callback": logs["adopted", "callback"],
        "not bought after all": codes["not_bought"],
        "429 deferred": codes["provider_rate_limited"],
        "download retried": types["postponed"],
        "worker buried": logs["workers_died", ""],
        "forged callback refused": hooks["hook_wrong_signature", 4],
        "duplicate callback taken": hooks["hook_duplicate", 2],
        "cancel won": cancels[200],
        "cancel lost": cancels[409],
        "prediction stopped": verdicts["cancelled"],
        "attempt retried": types["retrying"],
        "purchase of a dead worker settled": reasons["unknown", "its worker has ended"],
        "files of a dead worker collected": reasons["released", "its worker has ended"],
        "zombie came back": logs["worker_was_taken_for_dead", ""],
        "zombie lost the race": logs["collected_for_nothing", ""],
        "orphan stopped": logs["orphan_prediction", ""],
        "role changed hands": max(logs["coordinating", ""] - 1, 0),
        "answer lost to a client": sum(row["phase"] == "info" for row in evidence.history),
    }


def _is(row: Mapping[str, object], op: str, phase: str) -> bool:
    return row["op"] == op and row["phase"] == phase


def _kind(row: Mapping[str, int | None]) -> int:
    return (row["peer_status"] or 0) // 100
