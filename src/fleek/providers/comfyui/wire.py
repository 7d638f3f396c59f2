"""Responses of a ComfyUI server as predictions and errors of ours. Any field may be invalid.

Source: ``server.py`` and ``execution.py`` of https://github.com/comfyanonymous/ComfyUI, 0.3.64.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import field
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from fleek.domain.errors import ProviderRejected
from fleek.domain.job import PredictionId
from fleek.domain.media import Output
from fleek.domain.text import LongText, one_line
from fleek.domain.values import dataclass
from fleek.providers.base import Failed, InputFile, Outcome, Prediction, Succeeded
from fleek.providers.error_messages import read_reason
from fleek.providers.http import Answer, Unreadable, raise_for_create

NAME: Final = "ComfyUI"
VIEW: Final = "comfyui:"
"""The beginning of an output's name, before the query of ``/view``."""

OURS: Final = "fleek"
"""The key of our own data beside a workflow, and the folder of uploaded files."""

MAX_REASON: Final = 2000  # characters
MAX_FILES: Final = 64
MAX_NODES: Final = 2000  # of a workflow that are known
MAX_LINKS: Final = 500  # of a node's inputs to other nodes
MAX_ERRORS: Final = 5  # of nodes in one message
EMPTY: Final = Failed("empty_output", "the workflow saved no files", retryable=False)
CANCELLED: Final = Failed("prediction_cancelled", "the run was interrupted", retryable=False)
LOST: Final = Failed(
    "prediction_lost",
    "the server no longer has the run: it was restarted, or its history was cleared",
    retryable=True,
)

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MEMORY: Final = re.compile(r"out ?of ?memory", re.IGNORECASE)
_FOLDERS: Final = ("output", "temp")  # files that are kept, and previews


def is_ours(prediction_id: str) -> bool:
    """Whether an id has the form of Fleek's ids."""
    return _ID.fullmatch(prediction_id) is not None


def raise_for_prompt(answer: Answer) -> None:
    """Raise the error for the status of a response to a creation; see `raise_for_create`.

    Raises:
        ProviderRejected: The workflow is invalid; with the errors of its nodes.
    """
    if answer.status == 400:
        try:
            reason = _refusal(answer.json())
        except Unreadable:
            reason = ""
        if reason:
            message = f"{NAME} refused the workflow: {reason}"
            raise ProviderRejected(message, code="provider_invalid_input")
    raise_for_create(answer, NAME)


def _refusal(body: Mapping[str, Any]) -> str:
    """Return the errors of nodes, or the error of the whole workflow."""
    nodes = body.get("node_errors")
    found = list(islice(_node_errors(nodes if isinstance(nodes, dict) else {}), MAX_ERRORS))
    return one_line("; ".join(found) or _error(body.get("error")), MAX_REASON)


def _node_errors(nodes: Mapping[str, Any]) -> Iterator[str]:
    for key, node in nodes.items():
        errors = node.get("errors") if isinstance(node, dict) else None
        for error in errors if isinstance(errors, list) else ():
            yield f"{_word(node.get('class_type'))} (node {_word(key)}): {_error(error)}"


def _error(error: Any) -> str:
    """Return the message and the details of an error."""
    if not isinstance(error, dict):
        return read_reason(error, 500)
    details = read_reason(error.get("details"), 500, otherwise="")
    message = read_reason(error.get("message"), 500, otherwise="")
    return f"{message}: {details}" if message and details else message or details


def _word(value: Any) -> str:
    return one_line(value, 100) if isinstance(value, str) else "?"


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a workflow."""

    name: str
    sources: tuple[str, ...] = ()  # the nodes whose results it uses, by their ids


@dataclass(frozen=True, slots=True)
class Queued:
    """A run in the server's queue."""

    running: bool
    nodes: Mapping[str, Node] = field(default_factory=dict)  # by id, of one that runs


def read_queue(body: Mapping[str, Any]) -> dict[PredictionId, Queued]:
    """Return the runs in the server's queue.

    Raises:
        Unreadable: It is not a queue.
    """
    found: dict[PredictionId, Queued] = {}
    for name, running in (("queue_pending", False), ("queue_running", True)):
        rows = body.get(name)
        if not isinstance(rows, list):
            raise Unreadable("the response is not a queue")
        for row in rows:
            if not isinstance(row, list) or len(row) < 2:
                raise Unreadable("the response is not a queue")
            if isinstance(row[1], str):
                nodes = dict(_nodes(row[2])) if running and len(row) > 2 else {}
                found[PredictionId(row[1])] = Queued(running, nodes)
    return found


def _nodes(nodes: Any) -> Iterator[tuple[str, Node]]:
    """Yield the nodes of a workflow with their titles, else with their classes."""
    for key, node in islice(nodes.items() if isinstance(nodes, dict) else (), MAX_NODES):
        meta = node.get("_meta") if isinstance(node, dict) else None
        title = meta.get("title") if isinstance(meta, dict) else None
        kind = node.get("class_type") if isinstance(node, dict) else None
        name = _word(title) if isinstance(title, str) and title else _word(kind)
        inputs = node.get("inputs") if isinstance(node, dict) else None
        yield key, Node(name, tuple(islice(_sources(inputs), MAX_LINKS)))


def _sources(inputs: Any) -> Iterator[str]:
    """Yield the ids of the nodes that inputs name, each with the number of its result."""
    for value in inputs.values() if isinstance(inputs, dict) else ():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            yield value[0]


def read_history(key: PredictionId, body: Mapping[str, Any]) -> Prediction | None:
    """Return an ended prediction; None: the server has none with this id.

    Raises:
        Unreadable: It is neither.
    """
    entry = body.get(key)
    if entry is None and not body:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("outputs"), dict):
        raise Unreadable("the response is not the history of the run")
    status = entry.get("status")
    messages = dict(_messages(status.get("messages") if isinstance(status, dict) else None))
    failed = isinstance(status, dict) and status.get("status_str") == "error"
    outcome = _failure(messages) if failed else _success(entry["outputs"])
    return Prediction(id=key, outcome=outcome, metrics=_metrics(entry, messages))


def _messages(rows: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) == 2:
            event, data = row
            if isinstance(event, str) and isinstance(data, dict):
                yield event, data


def _failure(messages: Mapping[str, Mapping[str, Any]]) -> Failed:
    if "execution_interrupted" in messages:
        return CANCELLED
    error = messages.get("execution_error", {})
    kind = _word(error.get("exception_type"))
    reason = read_reason(error.get("exception_message"), MAX_REASON, otherwise=kind)
    again = bool(_MEMORY.search(f"{kind} {reason}"))
    message = f"{_word(error.get('node_type'))} (node {_word(error.get('node_id'))}): {reason}"
    return Failed("prediction_failed", message, retryable=again)


def _success(outputs: Mapping[str, Any]) -> Outcome:
    """Return the files of all nodes: those that are kept, else previews, else texts."""
    for folder in _FOLDERS:
        if files := tuple(islice(_files(outputs, folder), MAX_FILES)):
            return Succeeded(files)
    texts = tuple(islice(_texts(outputs), MAX_FILES))
    return Succeeded(texts) if texts else EMPTY


def _values(outputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield all values, each with the kind that its node names, such as images or audio."""
    for node in outputs.values():
        for kind, values in node.items() if isinstance(node, dict) else ():
            for value in values if isinstance(values, list) else ():
                yield kind, value


def _files(outputs: Mapping[str, Any], folder: str) -> Iterator[Output]:
    for _, value in _values(outputs):
        if isinstance(value, dict) and value.get("type") == folder:
            name, subfolder = value.get("filename"), value.get("subfolder", "")
            if isinstance(name, str) and name and isinstance(subfolder, str):
                query = {"filename": name, "subfolder": subfolder, "type": folder}
                yield Output(uri=VIEW + urlencode(query, errors="replace"))


def _texts(outputs: Mapping[str, Any]) -> Iterator[Output]:
    for kind, value in _values(outputs):
        if kind == "text" and isinstance(value, str | LongText) and value:
            yield Output(text=value)


def _metrics(
    entry: Mapping[str, Any], messages: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how long it took, and the numbers that were drawn."""
    metrics: dict[str, Any] = {}
    prompt = entry.get("prompt")
    extra = prompt[3] if isinstance(prompt, list) and len(prompt) > 3 else None
    drawn = extra.get(OURS) if isinstance(extra, dict) else None
    for name, value in islice(drawn.items() if isinstance(drawn, dict) else (), MAX_FILES):
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
            metrics[one_line(name, 64)] = value
    begun = _timestamp(messages.get("execution_start"))
    ended = _timestamp(messages.get("execution_success"))
    if begun is not None and ended is not None and 0 <= ended - begun < 2**40:
        metrics["predict_time"] = (ended - begun) / 1000
    return metrics


def _timestamp(message: Mapping[str, Any] | None) -> int | None:
    """Return the milliseconds in a message."""
    value = None if message is None else message.get("timestamp")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_upload(body: Mapping[str, Any]) -> str:
    """Return the name by which a workflow loads an uploaded file.

    Raises:
        Unreadable: It has none.
    """
    name, subfolder = body.get("name"), body.get("subfolder")
    if not isinstance(name, str) or not name or not isinstance(subfolder, str):
        raise Unreadable("the response has no name of the file")
    return f"{subfolder}/{name}" if subfolder else name


def upload_form(file: InputFile) -> tuple[bytes, dict[str, str]]:
    """Return the form that uploads a file, and its headers; blocks.

    Without ``overwrite``, the server keeps equal files once, and gives others another name.
    """
    boundary = secrets.token_hex(16)
    extension = file.name.rpartition(".")[2]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\n{OURS}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="{file.sha256}.{extension}"\r\nContent-Type: {file.content_type}\r\n\r\n'
    )
    content = b"".join((head.encode(), file.path.read_bytes(), f"\r\n--{boundary}--\r\n".encode()))
    return content, {"content-type": f"multipart/form-data; boundary={boundary}"}
