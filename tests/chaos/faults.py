"""Faults of the provider and the network, with their rates."""

from typing import Any, Final

LOST: Final = {  # the response to a create request; one in six
    "create_then_drop": 0.04,
    "create_then_reset": 0.02,
    "create_then_5xx": 0.04,
    "create_then_delay": 0.03,
    "create_cut_headers": 0.01,
    "create_cut_body": 0.01,
    "create_truncated": 0.01,
    "create_invalid": 0.01,
    "create_html": 0.005,
    "create_empty": 0.005,
}
NOT_CREATED: Final = {
    "create_5xx": 0.02,
    "create_drop": 0.02,
    "create_reset": 0.01,
    "create_429": 0.05,
}
POLLS: Final = {
    "get_5xx": 0.03,
    "get_404": 0.01,
    "get_429": 0.02,
    "get_reset": 0.02,
    "get_stale": 0.03,
    "get_html": 0.01,
    "list_5xx": 0.03,
    "list_429": 0.02,
    "list_reset": 0.02,
    "get_odd": 0.01,
    "get_cut_body": 0.01,
    "list_omit": 0.05,
    "list_stale": 0.05,
    "list_html": 0.01,
    "list_odd": 0.01,
    "list_cut_body": 0.01,
    "model_5xx": 0.05,
}
LIFETIMES: Final = {  # harmless: the result is available in the end
    "starting_status": 0.02,
    "unknown_status": 0.02,
    "end_late": 0.02,
    "unseen": 0.02,
    "vanish_while": 0.02,
    "huge_logs": 0.004,
    "output_404": 0.02,
    "output_403": 0.01,
    "output_padded": 0.02,
    "output_5xx": 0.02,
    "output_reset": 0.02,
    "output_away": 0.02,
}
ANSWERS: Final = {"answer_date": 0.05, "answer_gzip": 0.03}
CALLBACKS: Final = {
    "hook_drop": 0.15,
    "hook_duplicate": 0.1,
    "hook_delay": 0.1,
    "hook_reorder": 0.05,
    "hook_replay": 0.03,
    "hook_wrong_signature": 0.05,
    "hook_old_timestamp": 0.03,
    "hook_missing_headers": 0.02,
    "hook_not_utf8": 0.01,
    "hook_wrong_body": 0.01,
}
FILES: Final = {
    "file_truncate": 0.03,
    "file_reset": 0.02,
    "file_cut_chunked": 0.02,
    "file_cut_close": 0.02,
    "file_length_long": 0.01,
    "file_5xx": 0.03,
    "file_429": 0.02,
    "file_empty": 0.01,
    "file_html": 0.01,
    "file_page": 0.03,
    "file_gzip": 0.02,
    "file_drop": 0.02,
    "file_type": 0.02,
    "file_redirect": 0.02,
    "file_slow": 0.05,
}
SOCKETS: Final = {  # of ComfyUI, for progress alone
    "socket_refused": 0.1,
    "socket_dropped": 0.1,
    "socket_closed": 0.1,
    "socket_silent": 0.05,
    "socket_odd": 0.1,
    "socket_huge": 0.02,
}
NETWORK: Final = LOST | NOT_CREATED | POLLS | CALLBACKS | FILES | LIFETIMES | ANSWERS | SOCKETS
LONG: Final = {"create_then_timeout": 0.005}  # later than any time-out: half a minute each
LONG_GENUINE: Final = {"vanish": 0.004}  # is waited for, for ten minutes each

GENUINE: Final = {  # the predictions themselves, and the requests to stop them
    "transient_failure": 0.05,
    "interrupted": 0.02,
    "aborted": 0.02,
    "fail_mid": 0.02,
    "nsfw": 0.01,
    "odd_error": 0.02,
    "create_422": 0.01,
    "create_403": 0.005,
    "cancel_5xx": 0.1,
    "cancel_404": 0.05,
    "cancel_then_5xx": 0.1,
    "cancel_then_drop": 0.05,
    "cancel_ignored": 0.02,
    "cancel_lied": 0.1,
}
HUNG: Final = {"stuck_processing": 0.05, "stuck_starting": 0.02}  # until they are cancelled
TIMEOUT: Final = frozenset({"attempt_timeout"})  # the error of a job that hung everywhere

FAILURES: Final = frozenset(  # errors reported by the provider that may fail a job
    {
        "prediction_failed",
        "content_flagged",
        "prediction_aborted",
        "provider_invalid_input",
        "provider_bad_request",  # OpenAI's status for it
        "provider_forbidden",
        "prediction_gone",
    }
)
UNKNOWN: Final = frozenset({"provider_outcome_unknown"})  # of a lost start without a callback
SPELLS: Final[dict[str, dict[str, float]]] = {
    "throttled": {"create_429": 0.9, "get_429": 0.5},
    "outage": {"file_drop": 1.0},  # the file host is unavailable
    "late": {"create_then_delay": 1.0},
}
"""What is worse than usual, for a while."""

ARGUMENTS: Final = {
    "create_then_delay": "1.5",
    "create_422": "list",
    "get_stale": "1",
    "list_omit": "1",
    "list_stale": "1.5",
    "unseen": "1.5",
    "vanish_while": "1.5",
    "end_late": "1.5",
    "huge_logs": "2",
    "output_away": "4",
    "answer_date": "-7200",
    "file_slow": "2500",
    "hook_delay": "1.5",
    "hook_replay": "2",
}
ARGUMENTS_LONG: Final = {"huge_logs": "20"}
"""Those of long storms: each list contains the logs, for a third of a short storm's processor time."""


def plan(
    *, genuine: bool, long: bool = False, spell: str = "", hung: bool = False
) -> dict[str, Any]:
    """Return a plan for the emulator; a spell is one of `SPELLS`. `hung`: some predictions never end."""
    rates = NETWORK | (GENUINE if genuine else {}) | (LONG if long else {})
    rates |= LONG_GENUINE if genuine and long else {}
    rates |= HUNG if hung else {}
    late = {"create_then_delay": "8"} if spell == "late" else {}
    return {
        "rates": rates | SPELLS.get(spell, {}),
        "arguments": ARGUMENTS | (ARGUMENTS_LONG if long else {}) | late,
        "answer_seconds": (0.0, 0.3),  # long enough for a kill in between
        "queue_seconds": (0.02, 0.2),
        "predict_seconds": (0.1, 1.0),
        "webhook_retries": (0.5, 1, 2, 4),
        "injecting": True,
    }
