"""The description of outgoing webhooks in the OpenAPI document."""

from collections.abc import Mapping
from typing import Any, Final

from fleek.domain.webhooks import DISABLED_EVENT, TEST_EVENT
from fleek.schemas.events import EventType

MEANINGS: Final[Mapping[EventType, str]] = {
    EventType.CREATED: "A job was accepted.",
    EventType.STARTED: "An attempt of a job begins.",
    EventType.PROGRESS: "The provider has reported the progress of a job.",
    EventType.RETRYING: "A job is tried again later: `data.retrying` says why, and when.",
    EventType.COLLECTING: "The prediction of a job has succeeded; its files are being fetched.",
    EventType.COMPLETED: "A job has completed: `data.outputs` has its files.",
    EventType.FAILED: "A job has failed: `data.error_code` says why.",
    EventType.CANCELLED: "A job was cancelled.",
    EventType.PURGED: "The files of a job, or its metadata document, were removed.",
    EventType.UPDATED: "The caller has changed favourite, tags or metadata of a job.",
}

DISABLED: Final = (
    "Another endpoint of the tenant was disabled: it has answered 410, or failed for five days."
)
HEADERS: Final[Mapping[str, str]] = {
    "webhook-id": "The id of the delivery, the same at each attempt: `msg_…`.",
    "webhook-timestamp": "When this attempt was made: seconds since 1970.",
    "webhook-signature": "`v1,` and the HMAC-SHA256 of `id.timestamp.body` in Base64; during a "
    "rotation two of them, separated by a space.",
}

RESPONSES: Final = {
    "2XX": {"description": "It is accepted."},
    "410": {"description": "Nothing more is wanted: the endpoint is disabled."},
    "default": {"description": "It is sent again later; `Retry-After` is honoured."},
}


def describe_webhooks() -> dict[str, Any]:
    """Return the ``webhooks`` of the document: one request for each type of event."""
    job = {"$ref": "#/components/schemas/JobRead", "description": "The job as it was then."}
    endpoint = {
        "type": "object",
        "properties": {"endpoint_id": {"type": "string", "format": "uuid"}},
        "required": ["endpoint_id"],
    }
    described = {kind.value: _request(kind, text, job) for kind, text in MEANINGS.items()}
    disabled = {
        "type": "object",
        "properties": {
            "endpoint_id": {"type": "string", "format": "uuid"},
            "reason": {"type": "string", "enum": ["gone", "failing"]},
        },
        "required": ["endpoint_id", "reason"],
    }
    return {
        **described,
        DISABLED_EVENT: _request(DISABLED_EVENT, DISABLED, disabled),
        TEST_EVENT: _request(TEST_EVENT, "An endpoint is tested.", endpoint),
    }


def _request(kind: str, text: str, data: Mapping[str, Any]) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {
            "type": {"type": "string", "const": kind},
            "timestamp": {
                "type": "string",
                "format": "date-time",
                "description": "When the event happened.",
            },
            "data": data,
        },
        "required": ["type", "timestamp", "data"],
    }
    operation = {
        "operationId": f"on_{kind.replace('.', '_')}",
        "tags": ["webhooks"],
        "summary": kind,
        "description": text,
        "security": [],
        "parameters": [
            {
                "in": "header",
                "name": name,
                "required": True,
                "description": meaning,
                "schema": {"type": "string"},
            }
            for name, meaning in HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": RESPONSES,
    }
    return {"post": operation}
