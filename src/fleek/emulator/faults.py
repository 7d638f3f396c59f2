"""The catalogue of faults that the emulator can inject, by name."""

from dataclasses import dataclass
from typing import Final, Literal

ALWAYS: Final = 0

Group = Literal[
    "create",
    "life",
    "get",
    "list",
    "cancel",
    "answer",
    "hook",
    "file",
    "model",
    "socket",
    "upload",
    "knob",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, or a parameter (group `knob`) that is not a fault."""

    name: str
    group: Group
    what: str
    argument: str = ""  # the default of the value after `=`
    times: int = 1  # the default number of times that a marker applies; 0: always


CREATE: Final = (
    Fault("create_429", "create", "throttled; Retry-After: seconds, date, garbage, none", "1"),
    Fault("create_402", "create", "no credit left"),
    Fault(
        "create_422",
        "create",
        "the input is refused, in one of responses.FORMS",
        "problem",
    ),
    Fault("create_403", "create", "not permitted, in one of responses.FORMS", "html"),
    Fault("create_401", "create", "the token is refused as revoked"),
    Fault("create_5xx", "create", "this status; nothing was created", "503"),
    Fault("create_reset", "create", "connection reset; nothing was created"),
    Fault("create_drop", "create", "connection closed without a response; nothing was created"),
    Fault(
        "create_hang",
        "create",
        "no response, closed after so many seconds; nothing was created",
        "600",
    ),
    Fault(
        "create_redirect",
        "create",
        "307 to this address; nothing was created",
        "http://127.0.0.1:9/",
    ),
    Fault(
        "create_then_drop", "create", "created, then the connection is closed without a response"
    ),
    Fault("create_then_reset", "create", "created, then the connection is reset"),
    Fault("create_then_5xx", "create", "created, then this status", "500"),
    Fault("create_then_timeout", "create", "created, then never a response"),
    Fault(
        "create_then_delay",
        "create",
        "created at once, with a response so many seconds later",
        "30",
    ),
    Fault("create_cut_headers", "create", "created; the response ends within its headers"),
    Fault("create_cut_body", "create", "created; the connection is reset within the body"),
    Fault("create_truncated", "create", "created; 201 with half of the JSON"),
    Fault("create_invalid", "create", "created; 201 with a body that is not JSON"),
    Fault("create_html", "create", "created; 201 with an HTML page"),
    Fault("create_empty", "create", "created; 201 without a body"),
    Fault("create_huge", "create", "created; 201 with so many MB of JSON", "10"),
    Fault("create_gzip_bomb", "create", "created; 201 with a gzip bomb as body"),
    Fault(
        "hook_early",
        "create",
        "ends at once; its callback is sent before the response",
        times=ALWAYS,
    ),
    Fault("create_200", "create", "created; 200 instead of 201"),
    Fault(
        "create_odd_id",
        "create",
        "created; the response's id is invalid: path, long, empty, number",
        "path",
    ),
    Fault("create_duplicate_id", "create", "created; the response has the id of the previous one"),
)

LIFE: Final = (
    Fault("cold_start", "life", "so many seconds more in the queue", "60", ALWAYS),
    Fault("stuck_starting", "life", "never starts", times=ALWAYS),
    Fault("stuck_processing", "life", "starts and runs until the time limit", times=ALWAYS),
    Fault("fail_start", "life", "fails as soon as it starts", times=ALWAYS),
    Fault("fail_mid", "life", "fails halfway", times=ALWAYS),
    Fault("nsfw", "life", "fails because of its content", times=ALWAYS),
    Fault("transient_failure", "life", "runs out of GPU memory; the next one does not"),
    Fault("interrupted", "life", "interrupted by the platform; the next one is not"),
    Fault("aborted", "life", "ends as `aborted` before it starts"),
    Fault("huge_logs", "life", "so many MB of logs", "5", ALWAYS),
    Fault("bar_logs", "life", "logs with CRLF, and progress bars that a CR begins", times=ALWAYS),
    Fault("starting_status", "life", "this status until it starts", "queued", ALWAYS),
    Fault("unknown_status", "life", "this status while it runs", "migrating", ALWAYS),
    Fault("end_status", "life", "this status and no output once it has ended", "unknown", ALWAYS),
    Fault("end_late", "life", "`unknown` for so many seconds after its end", "5", ALWAYS),
    Fault("unseen", "life", "404 and not listed until so many seconds old", "5", ALWAYS),
    Fault("vanish", "life", "404 and not listed from so many seconds of age on", "2", ALWAYS),
    Fault("vanish_while", "life", "the same for so many seconds from its start", "5", ALWAYS),
    Fault(
        "odd_error",
        "life",
        "fails halfway, with an error in one of responses.ERRORS",
        "object",
        ALWAYS,
    ),
    Fault("completed_before_created", "life", "completed_at is before created_at", times=ALWAYS),
    Fault("missing_output", "life", "one of the outputs is missing", times=ALWAYS),
    Fault("output_404", "life", "each file is 404 so many times, then available", "3", ALWAYS),
    Fault("output_403", "life", "each file is 403 so many times, then available", "3", ALWAYS),
    Fault("output_5xx", "life", "each file is 503 so many times, then available", "3", ALWAYS),
    Fault("output_reset", "life", "each file is reset so many times, then available", "3", ALWAYS),
    Fault(
        "output_away",
        "life",
        "requests for its files get no response for so many seconds",
        "10",
        ALWAYS,
    ),
    Fault("output_padded", "life", "so many zero bytes after each file's end", "512", ALWAYS),
)

READ: Final = (
    Fault("get_404_fresh", "get", "404 while younger than so many seconds", "2", ALWAYS),
    Fault("get_404", "get", "404"),
    Fault("get_429", "get", "throttled, see create_429", "1"),
    Fault("get_5xx", "get", "this status", "503"),
    Fault("get_stale", "get", "the state of so many seconds ago: a replica lags behind", "5"),
    Fault("get_data_removed", "get", "its data was removed early", times=ALWAYS),
    Fault("get_reset", "get", "connection reset"),
    Fault("get_html", "get", "200 with an HTML page"),
    Fault("get_odd", "get", "200 with JSON of another shape, one of responses.ODD", "list"),
    Fault("get_cut_body", "get", "the connection is reset within the body"),
    Fault("get_slow", "get", "the response is so many seconds late", "5"),
    Fault("list_429", "list", "throttled, see create_429", "1"),
    Fault("list_5xx", "list", "this status", "503"),
    Fault(
        "list_omit", "list", "predictions younger than so many seconds are not listed", "5", ALWAYS
    ),
    Fault("list_stale", "list", "the list of so many seconds ago: a replica lags behind", "5"),
    Fault("list_html", "list", "200 with an HTML page"),
    Fault("list_odd", "list", "200 with JSON of another shape, one of responses.ODD", "null"),
    Fault("list_cut_body", "list", "the connection is reset within the body"),
    Fault("list_repeat", "list", "`next` links to the same page"),
    Fault("list_reset", "list", "connection reset"),
    Fault("list_slow", "list", "the response is so many seconds late", "5"),
    Fault("model_5xx", "model", "this status for a model or version", "503"),
    Fault("model_slow", "model", "a model or version, so many seconds later", "5"),
)

CANCEL: Final = (
    Fault("cancel_ignored", "cancel", "200, but it continues and ends normally", times=ALWAYS),
    Fault("cancel_lied", "cancel", "200 and `canceled`, but it continues", times=ALWAYS),
    Fault("cancel_404", "cancel", "404; not cancelled"),
    Fault("cancel_409", "cancel", "409; not cancelled yet"),
    Fault("cancel_5xx", "cancel", "this status; not cancelled", "503"),
    Fault("cancel_then_5xx", "cancel", "cancelled, then this status", "500"),
    Fault(
        "cancel_then_drop", "cancel", "cancelled, then the connection is closed without a response"
    ),
    Fault(
        "cancel_slow", "cancel", "cancelled at once, with a response so many seconds later", "5"
    ),
)

ANSWER: Final = (  # to any request of the API
    Fault(
        "answer_date", "answer", "Date so many seconds ahead; or: none, garbage", "3600", ALWAYS
    ),
    Fault("answer_gzip", "answer", "compressed without being requested", times=ALWAYS),
)

HOOK: Final = (
    Fault("hook_drop", "hook", "never sent", times=ALWAYS),
    Fault("hook_duplicate", "hook", "sent so many times", "2", ALWAYS),
    Fault("hook_delay", "hook", "sent so many seconds later", "5", ALWAYS),
    Fault("hook_reorder", "hook", "the first event is sent last", times=ALWAYS),
    Fault("hook_wrong_signature", "hook", "signed with another secret", times=ALWAYS),
    Fault("hook_old_timestamp", "hook", "signed so many seconds ago", "3600", ALWAYS),
    Fault("hook_future_timestamp", "hook", "signed so many seconds ahead", "3600", ALWAYS),
    Fault("hook_missing_headers", "hook", "without its three headers", times=ALWAYS),
    Fault("hook_huge", "hook", "with so many MB of logs", "20", ALWAYS),
    Fault("hook_not_utf8", "hook", "correctly signed bytes that are not text", times=ALWAYS),
    Fault(
        "hook_wrong_body", "hook", "the body of another prediction, correctly signed", times=ALWAYS
    ),
    Fault("hook_replay", "hook", "the same message again so many seconds later", "5", ALWAYS),
)

FILE: Final = (
    Fault("file_slow", "file", "so many bytes a second", "1", ALWAYS),
    Fault("file_stall", "file", "so many bytes, then silence", "64"),
    Fault("file_truncate", "file", "half of Content-Length, then the connection closes"),
    Fault("file_reset", "file", "half of the file, then the connection is reset"),
    Fault("file_cut_chunked", "file", "half of the file in chunks, without the last chunk"),
    Fault("file_cut_close", "file", "half of the file without a length or chunks"),
    Fault("file_length_short", "file", "Content-Length is half of what is sent"),
    Fault("file_length_long", "file", "Content-Length is more than what is sent"),
    Fault("file_type", "file", "this Content-Type", "application/x-whatever", ALWAYS),
    Fault("file_html", "file", "200 with an HTML page announced as an image", times=ALWAYS),
    Fault(
        "file_page", "file", "200 with an error page, one of files.PAGES; default: random", "any"
    ),
    Fault("file_gzip", "file", "compressed without being requested", times=ALWAYS),
    Fault("file_drop", "file", "the connection is closed without a response"),
    Fault("file_svg", "file", "200 with an SVG that contains a script", times=ALWAYS),
    Fault("file_endless", "file", "never ends", times=ALWAYS),
    Fault(
        "file_gzip_bomb",
        "file",
        "Content-Encoding: gzip, of unlimited size when decompressed",
        times=ALWAYS,
    ),
    Fault(
        "file_pixel_bomb",
        "file",
        "a small PNG with a declared size of 60000 x 60000 pixels",
        times=ALWAYS,
    ),
    Fault("file_empty", "file", "200 with no bytes"),
    Fault("file_gone", "file", "this status: the address has expired", "404", ALWAYS),
    Fault("file_5xx", "file", "this status", "503"),
    Fault("file_429", "file", "throttled, see create_429", "1"),
    Fault("file_redirect", "file", "302 so many times, then the file", "1", ALWAYS),
    Fault("file_redirect_loop", "file", "302 to itself", times=ALWAYS),
    Fault(
        "file_redirect_to", "file", "302 to this address", "http://169.254.169.254/latest/", ALWAYS
    ),
    Fault(
        "file_range_ignored",
        "file",
        "200 with the whole file for any range",
        times=ALWAYS,
    ),
    Fault("file_etag_changes", "file", "another ETag for each request", times=ALWAYS),
)

UPLOAD: Final = (  # of an input file to fal
    Fault("token_5xx", "upload", "this status instead of a token", "503"),
    Fault("token_html", "upload", "200 with an HTML page instead of a token"),
    Fault("upload_5xx", "upload", "this status; nothing was stored", "503"),
    Fault("upload_refused", "upload", "this status: the file is not accepted", "422"),
    Fault("upload_reset", "upload", "connection reset; nothing was stored"),
    Fault("upload_then_reset", "upload", "stored, then the connection is reset"),
    Fault("upload_odd", "upload", "stored; 200 without an address"),
)

SOCKET: Final = (
    Fault("socket_refused", "socket", "403 instead of a WebSocket"),
    Fault("socket_dropped", "socket", "disconnected after so many messages", "1"),
    Fault("socket_closed", "socket", "closed after so many messages", "2"),
    Fault("socket_silent", "socket", "no messages", times=ALWAYS),
    Fault("socket_odd", "socket", "messages of other shapes, and some that are not JSON"),
    Fault("socket_huge", "socket", "a message of so many MB", "20"),
)

KNOB: Final = (
    Fault("delay", "knob", "the response to create is so many seconds late", "1", ALWAYS),
    Fault("queue", "knob", "seconds in the queue", "0.1", ALWAYS),
    Fault("predict", "knob", "seconds of work", "1", ALWAYS),
    Fault("images", "knob", "number of outputs", "1", ALWAYS),
    Fault("output", "knob", "shape of the output, see media.SHAPES", "list", ALWAYS),
)

CATALOGUE: Final = {
    fault.name: fault
    for group in (CREATE, LIFE, READ, CANCEL, ANSWER, HOOK, FILE, UPLOAD, SOCKET, KNOB)
    for fault in group
}

ALIASES: Final = {
    "lost_response": "create_then_drop",
    "create_then_500": "create_then_5xx",
    "truncate": "file_truncate",
}
