"""Responses of the API as predictions and errors of ours. Any field may be missing or invalid."""

import base64
import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from math import isfinite
from mimetypes import guess_extension
from typing import Any, Final

from fleek.domain.data_uri import decode, media_type
from fleek.domain.errors import ProviderRejected, ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.domain.media import Output
from fleek.domain.text import LongText, joined, one_line, pieces_of
from fleek.providers.base import PAYMENT_REQUIRED, Failed, Outcome, Prediction, Succeeded
from fleek.providers.error_messages import read_reason
from fleek.providers.http import UNPAID, Answer, Unreadable, detail, raise_for_create

NAME: Final = "the OpenAI API"
CONTENT: Final = "openai:"
"""The beginning of an output's name that is a path of the API."""

EMPTY: Final = Failed("empty_output", "the response has no output", retryable=False)
MAX_REASON: Final = 2000  # characters
MAX_FILES: Final = 64
MAX_METRICS: Final = 30

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,399}")
_FIELD: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
_FLAGGED: Final = frozenset({"moderation_blocked", "content_policy_violation", "content_filter"})
_UNPAID: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_HOSTS: Final = "llm_provider-"
_WRAPPED: Final = "litellm."
_WRAPPED_CODES: Final = (
    (
        re.compile(
            r"safety system|ContentPolicyViolation|content_policy_violation|moderation_blocked"
        ),
        "content_filter",
    ),
    (
        re.compile(r"insufficient_quota|exceeded your current quota|[Bb]illing.hard.limit"),
        "insufficient_quota",
    ),
)
"""What of the host's error is left in a text of LiteLLM, whose own code is the status."""

_TRANSIENT: Final = re.compile(r"out of memory|overloaded|server_error|timed? ?out", re.IGNORECASE)
_MEDIA_TYPE: Final = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,60}")


def multipart(
    fields: Mapping[str, Any], files: Collection[str] = ()
) -> tuple[bytes, dict[str, str]]:
    """Return a form and its headers; blocks if there are files.

    Args:
        fields: Texts; other values are sent as JSON.
        files: JSON pointers of the values that are ``data:`` URIs of files. Several files in a list
            become parts with the same name, ``image[]``.

    Raises:
        ValueError: The name of a field cannot be sent.
    """
    boundary = secrets.token_hex(16).encode()
    parts = []
    for name, value in fields.items():
        if not _FIELD.fullmatch(name):
            raise ValueError("a parameter's name has characters that a form cannot have")
        if isinstance(value, list) and value and f"/{name}/0" in files:
            parts += [_file_part(f"{name}[]", item) for item in value]
        elif f"/{name}" in files:
            parts.append(_file_part(name, value))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            parts.append(f'name="{name}"\r\n\r\n{text}'.encode())
    head = b"--" + boundary + b"\r\ncontent-disposition: form-data; "
    content = b"".join(head + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    return content, {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}


def _file_part(name: str, uri: str) -> bytes:
    kind = media_type(uri)
    extension = guess_extension(kind) or ".bin"
    head = f'name="{name}"; filename="{name.rstrip("[]")}{extension}"\r\ncontent-type: {kind}'
    return head.encode() + b"\r\n\r\n" + b"".join(decode(pieces_of(uri)))


def raise_for_start(answer: Answer) -> None:
    """Raise the error for the status of a response to a creation; see `raise_for_create`."""
    answer = _unwrapped(answer)
    if 400 <= answer.status < 500:
        code = error_code(answer)
        if code in _FLAGGED:
            raise ProviderRejected(f"{NAME} refused: {detail(answer)}", code="content_flagged")
        if code in _UNPAID:
            message = f"the account has no credit left: {detail(answer)}"
            raise ProviderUnavailable(message, code=PAYMENT_REQUIRED, retry_after=UNPAID)
    raise_for_create(answer, NAME)


def _unwrapped(answer: Answer) -> Answer:
    """Return an answer with the headers of the host itself, which LiteLLM renames when it reports an error."""
    hosts = {
        name.removeprefix(_HOSTS): value
        for name, value in answer.headers.items()
        if name.startswith(_HOSTS)
    }
    return replace(answer, headers={**hosts, **answer.headers}) if hosts else answer


def error_code(answer: Answer) -> str | None:
    """Return the code in ``{"error": {"code": …}}``; of an error that LiteLLM passes on, the host's."""
    with suppress(Unreadable):
        error = answer.json().get("error")
        if not isinstance(error, dict):
            return None
        code, message = error.get("code"), error.get("message")
        if isinstance(message, str) and message.startswith(_WRAPPED):
            codes = (code for pattern, code in _WRAPPED_CODES if pattern.search(message))
            return next(codes, None)
        return code if isinstance(code, str) else None
    return None


def is_stated(answer: Answer) -> bool:
    """Whether a failure is stated by the API itself, not by a gateway before it.

    SGLang-Diffusion answers a failed image in plain text, as its framework does.
    """
    if answer.status == 500 and answer.body.strip() == b"Internal Server Error":
        return True
    try:
        body = answer.json()
    except Unreadable:
        return False
    return "error" in body or "detail" in body


def read_files(answer: Answer) -> Outcome:
    """Return the result of a synchronous request: a file, or JSON with images.

    Raises:
        Unreadable: It is neither.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        if not answer.body or kind.startswith("text/") or not _MEDIA_TYPE.fullmatch(kind):
            raise Unreadable("the response is no file")
        encoded = base64.b64encode(answer.body).decode()
        return Succeeded((Output(uri=f"data:{kind};base64,{encoded}"),))
    body = answer.json()
    rows = body.get("data")
    if not isinstance(rows, list):
        raise Unreadable("the response has no images")
    form = body.get("output_format")
    outputs = tuple(islice(_images(rows, form if isinstance(form, str) else "png"), MAX_FILES))
    return Succeeded(outputs) if outputs else EMPTY


def _images(rows: Sequence[Any], form: str) -> Iterator[Output]:
    kind = form if re.fullmatch(r"[a-z]{1,10}", form) else "png"
    for row in rows:
        encoded = row.get("b64_json") if isinstance(row, dict) else None
        url = row.get("url") if isinstance(row, dict) else None
        if isinstance(encoded, str | LongText) and encoded:
            yield Output(uri=joined([f"data:image/{kind};base64,", encoded]))
        elif isinstance(url, str) and url:
            yield Output(uri=url)


def is_video_id(value: Any) -> bool:
    """Whether a value can be the id of a video."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def read_video(body: Mapping[str, Any], *, retryable: bool = False) -> Prediction | None:
    """Return the prediction of a video's job, or None if it has no valid id.

    An unknown status counts as running. `retryable`: any failure may be tried again.
    """
    if not is_video_id(body.get("id")):
        return None
    video_id = PredictionId(body["id"])
    outcome = _video_outcome(video_id, body, retryable=retryable)
    return Prediction(
        id=video_id,
        progress=_progress(body.get("progress")) if outcome is None else None,
        outcome=outcome,
        metrics={} if outcome is None else read_metrics(body),
    )


def _progress(percent: Any) -> float | None:
    known = isinstance(percent, int | float) and 0 <= percent <= 100
    return percent / 100 if known else None


def _video_outcome(
    video_id: PredictionId, body: Mapping[str, Any], *, retryable: bool
) -> Outcome | None:
    match body.get("status"):
        case "completed":
            return Succeeded(tuple(_video_outputs(video_id, body)))
        case "failed":
            return _failure(body.get("error"), retryable=retryable)
        case "cancelled" | "canceled" | "deleted":
            return CANCELLED
        case _:
            return None


CANCELLED: Final = Failed("prediction_cancelled", "the video was deleted", retryable=False)


def _video_outputs(video_id: PredictionId, body: Mapping[str, Any]) -> Iterator[Output]:
    """Yield the videos of a job: SGLang may have several, at addresses of their own."""
    urls, made = body.get("urls"), body.get("num_outputs")
    count = min(made, MAX_FILES) if isinstance(made, int) and made > 1 else 1
    several = count > 1
    for index in range(count):
        url = body.get("url")
        if several and isinstance(urls, list) and index < len(urls):
            url = urls[index]
        variant = f"?variant={index}" if several else ""
        if isinstance(url, str) and url:
            yield Output(uri=url)
        else:
            yield Output(uri=f"{CONTENT}/videos/{video_id}/content{variant}")


def _failure(error: Any, *, retryable: bool) -> Failed:
    code = error.get("code") if isinstance(error, dict) else None
    reason = read_reason(error, MAX_REASON, otherwise="the server gave no reason")
    if isinstance(code, str) and code in _FLAGGED:
        return Failed("content_flagged", reason, retryable=False)
    refused = isinstance(code, int) and 400 <= code < 500  # vLLM-Omni: the status of the failure
    again = not refused and (retryable or bool(_TRANSIENT.search(f"{code} {reason}")))
    return Failed("prediction_failed", reason, retryable=again)


def read_metrics(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a later price depends on: tokens, size, seconds, and the time it took."""
    usage = body.get("usage")
    named = {**(usage if isinstance(usage, dict) else {})}
    named |= {key: body[key] for key in ("size", "quality", "seconds") if key in body}
    named |= {key: body[key] for key in ("inference_time_s", "num_outputs") if key in body}
    plain = (
        (one_line(name, 100), one_line(value, 100) if isinstance(value, str) else value)
        for name, value in named.items()
        if _is_plain(value)
    )
    return dict(islice(plain, MAX_METRICS))


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**53
    return isinstance(value, str)


def read_created(row: Mapping[str, Any]) -> datetime | None:
    """Return the creation time of a video, in whole seconds."""
    created = row.get("created_at")
    if not isinstance(created, int | float) or isinstance(created, bool):
        return None
    try:
        return datetime.fromtimestamp(created, UTC)
    except (ValueError, OverflowError, OSError):
        return None
