"""Paths, bodies and values of the wire format: shared by both clients."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fleek.client.errors import ServerError
from fleek.client.wire_model import WireModel
from fleek.domain.errors import ConfigurationError, InvalidInput
from fleek.domain.idempotency import KEY
from fleek.domain.job import MODEL_NAME

MAX_ANSWER_BYTES: Final = 32 * 1_048_576
"""Largest JSON answer that is read; files have no limit."""


UPLOADS: Final = "/api/v1/uploads"
BATCHES: Final = "/api/v1/batches"
ENDPOINTS: Final = "/api/v1/webhooks/endpoints"
DELIVERIES: Final = "/api/v1/webhooks/deliveries"
KEYS: Final = "/api/v1/keys"
QUEUE: Final = "/api/v1/queue"
KEY_ID: Final = re.compile(r"(?:fleek_)?([a-z2-7]{12})(?:_[0-9A-Za-z]{49})?")
"""The id of an API key, its beginning, or all of it."""
MESSAGE_ID: Final = re.compile(r"msg_[0-9a-f]{32}")


ModelT = TypeVar("ModelT", bound=WireModel)


def bearer(api_key: str | None) -> str | None:
    """Return the value of the Authorization header; None without a key.

    None is the key in the environment, an empty text is none.

    Raises:
        ConfigurationError: The key contains characters that are not allowed in one.
    """
    if api_key is None:
        api_key = os.environ.get("FLEEK_API_KEY")  # noqa: TID251 - the caller's, not the service's
    if not api_key:
        return None
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigurationError(
            "FLEEK_API_KEY: contains characters that are not allowed in a key"
        )
    return f"Bearer {api_key}"


def idempotency(key: str | None) -> dict[str, str]:
    """Return the header of a request that creates a job; None: a new key, for its retries.

    Raises:
        InvalidInput: The key contains characters that are not allowed in one.
    """
    if key is None:
        key = str(uuid4())
    elif KEY.fullmatch(key) is None:
        raise InvalidInput("idempotency_key: must be 1-255 visible ASCII characters")
    return {"idempotency-key": key}


def models_path(**asked: str | bool | None) -> str:
    """Return the path of a list of models; conditions that are None are left out."""
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in asked.items()
        if value is not None
    }
    return f"/api/v1/models?{urlencode(given)}" if given else "/api/v1/models"


def model_path(name: str) -> str:
    """Return the path that describes a model.

    Raises:
        InvalidInput: The name is not well-formed.
    """
    if MODEL_NAME.fullmatch(name) is None:
        raise InvalidInput(f"{name!r} is not a valid model name; use owner/name")
    return f"/api/v1/models/{name}"


def events_path(job_id: UUID | str | None) -> str:
    """Return the path of the events of a job; None: of all jobs.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    return "/api/v1/events" if job_id is None else job_path(job_id, "events")


def job_path(job_id: UUID | str, *rest: str, root: str = "jobs") -> str:
    """Return the path of a job, or one below it.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    try:
        known = UUID(str(job_id))
    except ValueError:
        raise InvalidInput(f"{str(job_id)[:60]!r} is not a job id") from None
    return "/".join(("/api/v1", root, str(known), *rest))


def endpoint_path(endpoint_id: UUID | str, *rest: str) -> str:
    """Return the path of an endpoint of webhooks, or one below it.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    try:
        known = UUID(str(endpoint_id))
    except ValueError:
        raise InvalidInput(f"{str(endpoint_id)[:60]!r} is not an endpoint id") from None
    return "/".join((ENDPOINTS, str(known), *rest))


def delivery_path(delivery_id: str, *rest: str) -> str:
    """Return the path of a delivery, or one below it.

    Raises:
        InvalidInput: The id is not one of a delivery.
    """
    if MESSAGE_ID.fullmatch(delivery_id) is None:
        raise InvalidInput(f"{delivery_id[:60]!r} is not a delivery id; it begins with msg_")
    return "/".join((DELIVERIES, delivery_id, *rest))


def key_path(key: str) -> str:
    """Return the path of an API key, given by its id, its beginning or all of it; only the id is sent.

    Raises:
        InvalidInput: It is none of them.
    """
    match = KEY_ID.fullmatch(key)
    if match is None:
        raise InvalidInput("this is no id of an API key; it is shown in the list of keys")
    return f"{KEYS}/{match[1]}"


def upload_path(upload_id: UUID | str) -> str:
    """Return the path of an upload; its reference, `upload:ID`, names it as well.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    text = str(upload_id).removeprefix("upload:")
    try:
        return f"{UPLOADS}/{UUID(text)}"
    except ValueError:
        raise InvalidInput(f"{text[:60]!r} is not an upload id") from None


def batch_path(batch_id: UUID | str, *rest: str) -> str:
    """Return the path of a batch, or one below it.

    Raises:
        InvalidInput: The id is not a UUID.
    """
    try:
        known = UUID(str(batch_id))
    except ValueError:
        raise InvalidInput(f"{str(batch_id)[:60]!r} is not a batch id") from None
    return "/".join((BATCHES, str(known), *rest))


def lines(requests: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the requests of a batch as JSON Lines.

    Raises:
        InvalidInput: A value cannot be serialized as JSON.
    """
    return b"\n".join(body(request) for request in requests)


def file_content(file: Path | str | bytes) -> bytes:
    """Return the bytes of a file to be uploaded.

    Raises:
        InvalidInput: It cannot be read.
    """
    if isinstance(file, bytes):
        return file
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error


def given(fields: Mapping[str, str | None]) -> dict[str, str]:
    """Return the parameters of a query, without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def body(fields: Mapping[str, Any]) -> bytes:
    """Return the JSON body of a request, without the fields that are None.

    Raises:
        InvalidInput: A value cannot be serialized as JSON.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return json.dumps(given, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot be serialized as JSON: {error}") from error


def parse(kind: type[ModelT], value: Any) -> ModelT:
    """Read a value of the wire format.

    Raises:
        ServerError: It is not one.
    """
    try:
        return kind.from_json(value)
    except (ValueError, TypeError) as error:
        raise ServerError(f"the server's answer is not a {kind.__name__} of version 1") from error


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ServerError: It is not one.
    """
    if not isinstance(value, dict):
        raise ServerError("the server's answer is not an object")
    return value


def parse_list(kind: type[ModelT], value: Any) -> list[ModelT]:
    """Read a list of values of the wire format.

    Raises:
        ServerError: It is not one.
    """
    if not isinstance(value, list):
        raise ServerError("the server's answer is not a list")
    return [parse(kind, item) for item in value]
