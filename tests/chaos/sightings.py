"""States that a run should reach: which were reached, and which have to be."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from chaos.evidence import Evidence
from chaos.flood import REFUSED

ALWAYS: Final = frozenset(  # in every run
    {
        "adopted after a lost response",
        "not created after all",
        "request repeated without an answer",
    }
)
STRIKES: Final[Mapping[str, tuple[str, ...]]] = {  # state → faults any of which makes it
    "list lagged": ("list_omit", "list_stale"),
    "created, then 5xx": ("create_then_5xx",),
    "response to a start cut": ("create_cut_body", "create_cut_headers"),
    "response to a start too late": ("create_then_timeout",),
    "poll cut or of another kind": ("get_cut_body", "get_odd", "list_cut_body", "list_odd"),
    "prediction hidden for a while": ("unseen", "vanish_while"),
    "unknown status": ("starting_status", "unknown_status", "end_late"),
    "output host failed and then worked": ("output_5xx", "output_reset", "output_away"),
    "output refused and then there": ("output_404", "output_403"),
    "padded output": ("output_padded",),
    "error page as an output": ("file_page", "file_html"),
    "huge logs": ("huge_logs",),
    "wrong Date": ("answer_date",),
    "compressed answer": ("answer_gzip",),
    "compressed output": ("file_gzip",),
    "callback lost": ("hook_drop",),
    "callback reordered": ("hook_reorder",),
    "disk full": ("enospc",),
    "disk read-only": ("erofs",),
    "disk broken": ("oserror",),
}
STRIKES_WILD: Final[Mapping[str, tuple[str, ...]]] = {
    "prediction vanished": ("vanish",),
    "error in another shape": ("odd_error",),
    "refused in another shape": ("create_422", "create_403"),
    "cancel falsely confirmed": ("cancel_lied",),
}
LONG: Final = frozenset(  # states that need some minutes, or luck
    {
        "adopted by callback",
        "429 deferred",
        "download retried",
        "worker expired",
        "forged callback refused",
        "duplicate callback taken",
        "start of a crashed worker reconciled",
        "files of a crashed worker collected",
        "leadership changed",
        "stopped during a start",
        "clock stepped while running",
        "descriptors exhausted",
        "files unavailable",
        "stream resumed",
        "webhook refused",
        "webhook taken without an answer",
        "webhook came again",
        "receiver hung",
        "receiver away",
        "tenant had its fill",
        "requests beyond the rate refused",
        *STRIKES,
    }
)
LONG_WILD: Final = frozenset(
    {
        "cancel won",
        "cancel lost",
        "prediction stopped",
        "attempt retried",
        "expired worker resumed",
        "expired worker was superseded",
        *STRIKES_WILD,
    }
)
LONG_SPLIT: Final = frozenset({"provider removed"})
ELSEWHERE: Final = frozenset({"rerouted", "paid for at one provider", "paid for at another"})
BY_CALLBACK: Final = frozenset(
    {
        "adopted by callback",
        "forged callback refused",
        "duplicate callback taken",
        "callback lost",
        "callback reordered",
    }
)
BY_SEARCH: Final = frozenset({"not created after all"})  # a repeated start leaves no doubt
BY_LIST: Final = BY_SEARCH | {"adopted after a lost response", "list lagged"}
LONG_KILLS: Final = 40  # from so many on a run counts as long, and has to reach all of them


def must_see(*, kills: int, wild: bool, split: bool) -> frozenset[str]:
    """Return the states that a run has to reach to be meaningful."""
    if kills < LONG_KILLS:
        return ALWAYS
    found = ALWAYS | LONG
    return found | (LONG_WILD if wild else set()) | (LONG_SPLIT if split else set())


def sightings(evidence: Evidence, deeds: Mapping[str, int]) -> dict[str, int]:
    """Count the states that a run should reach; `deeds`: the faults of processes."""
    events = [event for events in evidence.events.values() for event in events]
    codes = Counter(str(e.data.get("code")) for e in events if e.type in {"deferred", "postponed"})
    reasons = Counter((event.type, str(event.data.get("reason"))) for event in events)
    types = Counter(event.type for event in events)
    logs = Counter((str(row["event"]), str(row.get("by", ""))) for row in evidence.logs)
    cancels = Counter(row["status"] for row in evidence.history if _is(row, "cancel", "ok"))
    hooks = Counter((fault, _kind(row)) for row in evidence.webhooks for fault in row["faults"])
    verdicts = Counter(attempt.verdict for attempt in evidence.attempts)
    paid = Counter(one.provider for one in evidence.attempts if one.verdict == "succeeded")
    most = [number for _, number in paid.most_common(2)]
    return {
        "adopted after a lost response": logs["prediction_adopted", "list"]
        + logs["prediction_adopted", "repeat"],
        "rerouted": types["rerouted"],
        "output signed": len(evidence.bare),
        "thumbnail made": len(evidence.thumbnails),
        "paid for at one provider": sum(most[:1]),
        "paid for at another": sum(most[1:]),
        "adopted by callback": logs["prediction_adopted", "callback"],
        "not created after all": codes["not_bought"],
        "429 deferred": codes["provider_rate_limited"],
        "download retried": types["postponed"],
        "worker expired": logs["workers_expired", ""],
        "forged callback refused": hooks["hook_wrong_signature", 4],
        "duplicate callback taken": hooks["hook_duplicate", 2],
        "cancel won": cancels[200],
        "cancel lost": cancels[409],
        "prediction stopped": verdicts["cancelled"],
        "attempt retried": types["retrying"],
        "start of a crashed worker reconciled": reasons["unknown", "its worker has ended"],
        "files of a crashed worker collected": codes["collecting_crashed"],
        "expired worker resumed": logs["worker_lease_lost", ""],
        "expired worker was superseded": logs["collect_superseded", ""],
        "orphan stopped": logs["orphan_prediction", ""],
        "leadership changed": max(logs["leadership_acquired", ""] - 1, 0),
        "answer lost to a client": sum(row["phase"] == "info" for row in evidence.history),
        "stopped during a start": deeds.get("stop_starting", 0),
        "clock stepped while running": deeds.get("step", 0),
        "descriptors exhausted": deeds.get("starve", 0),
        "provider removed": deeds.get("remove", 0),
        "files unavailable": deeds.get("outage", 0),
        **_promises(evidence),
        "receiver away": deeds.get("unheard", 0),
    } | {
        state: sum(evidence.strikes.get(fault, 0) for fault in faults)
        for state, faults in {**STRIKES, **STRIKES_WILD}.items()
    }


def _promises(evidence: Evidence) -> dict[str, int]:
    """Count the states of promises to callers."""
    manners = Counter(arrival.manner for arrival in evidence.received)
    ids = {arrival.id for arrival in evidence.received}
    unanswered = {
        (row["tenant"], row["key"])
        for row in evidence.history
        if row["op"] == "submit" and row["phase"] == "info"
    }
    return {
        "request repeated without an answer": sum(
            _is(row, "submit", "ok") and (row["tenant"], row["key"]) in unanswered
            for row in evidence.history
        ),
        "repeated request answered with its job": sum(
            _is(row, "submit", "ok") and "replayed" in row for row in evidence.history
        ),
        "stream resumed": evidence.resumed,
        "requests beyond the rate refused": sum(one.status == REFUSED for one in evidence.flood),
        "webhook refused": manners["refused"] + manners["throttled"] + manners["redirected"],
        "webhook taken without an answer": manners["lost"],
        "webhook came again": len(evidence.received) - len(ids),
        "receiver hung": manners["hung"],
        "tenant had its fill": sum(
            row["status"] == 429 for row in evidence.history if _is(row, "submit", "fail")
        ),
    }


def _is(row: Mapping[str, object], op: str, phase: str) -> bool:
    return row["op"] == op and row["phase"] == phase


def _kind(row: Mapping[str, int | None]) -> int:
    return (row["peer_status"] or 0) // 100
