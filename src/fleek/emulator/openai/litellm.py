"""LiteLLM's own routes in front of OpenAI's API, as its proxy 1.108.7 was seen to answer.

It wraps the host's errors in a sentence and gives the status as their code, renames the host's headers, and
names videos by ids of its own. It has no list of videos without a model, and no way of deleting one.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "video_"
HOSTS: Final = "llm_provider-"
NO_LIST: Final = "litellm.BadRequestError: LLM Provider NOT provided. You passed model="
KINDS: Final = {
    400: ("BadRequestError: OpenAIException", "invalid_request_error"),
    401: ("AuthenticationError: AuthenticationError: OpenAIException", "authentication_error"),
    403: ("APIError: APIError: OpenAIException", "permission_error"),
    408: ("Timeout: Timeout: OpenAIException", "timeout_error"),
    429: ("RateLimitError: RateLimitError: OpenAIException", "throttling_error"),
}
OTHER: Final = (
    "InternalServerError: InternalServerError: OpenAIException",
    "internal_server_error",
)


def wrapped(text: str, status: int) -> dict[str, Any]:
    """Return the body of an error of the host."""
    name, kind = KINDS.get(status, OTHER)
    message = f"litellm.{name} - {text}\n\nLiteLLM: model group failed with the error above."
    return refusal(message, status, kind)


def refusal(message: str, status: int, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return the body of an error of LiteLLM itself."""
    return {"error": {"message": message, "type": kind, "param": None, "code": str(status)}}


def renamed(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the host's headers under the names that they are passed on with."""
    return {f"{HOSTS}{name}": value for name, value in headers.items()}


def shown_id(host_id: str) -> str:
    """Return the id of a video as callers see it: it says to which host it belongs."""
    named = (
        f"litellm:custom_llm_provider:openai;model_id:sora-2;video_id:{host_id};deployment_id:0"
    )
    return PREFIX + b64encode(named.encode()).decode()


def host_id(shown: str) -> str | None:
    """Return the host's id of a video; None: it is no id of ours."""
    try:
        named = b64decode(shown.removeprefix(PREFIX), validate=True).decode()
    except ValueError:
        return None
    return named.partition("video_id:")[2].partition(";")[0] or None
