"""An empty prompt counts as none, whichever API it is sent to: the model decides whether it needs one."""

import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2
import pytest

from facade_site import KEY, Site
from fakes import PNG

UPSCALER: Final = "nightmareai/real-esrgan"
PRO: Final = "black-forest-labs/flux-1.1-pro"
PICTURE: Final = f"data:image/png;base64,{b64encode(PNG).decode()}"
NONE: Final[Mapping[str, Any]] = {}

Form = Callable[[str, Mapping[str, Any]], tuple[str, dict[str, Any]]]


def fal(model: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a request in fal's form."""
    return f"/fal-queue/{model}", dict(arguments)


def replicate(model: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a request in Replicate's form."""
    return f"/replicate/v1/models/{model}/predictions", {"input": dict(arguments)}


def own(model: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a request in the form of this service."""
    others = {name: value for name, value in arguments.items() if name != "prompt"}
    prompt = {name: value for name, value in arguments.items() if name == "prompt"}
    return "/api/v1/generate", {"model_name": model, "parameters": others, **prompt}


@pytest.mark.parametrize("form", [fal, replicate, own])
@pytest.mark.parametrize(
    ("model", "prompt", "accepted"),
    [
        (UPSCALER, NONE, True),
        (UPSCALER, {"prompt": ""}, True),
        (UPSCALER, {"prompt": " "}, False),
        (PRO, NONE, False),
        (PRO, {"prompt": ""}, False),
    ],
)
def test_an_empty_prompt_is_none(
    site: Site, form: Form, model: str, prompt: Mapping[str, Any], *, accepted: bool
) -> None:
    """As if it were not there; one of spaces is a mistake."""
    picture = {"image": PICTURE} if model == UPSCALER else {}
    path, body = form(model, {**picture, **prompt})
    trusting, headers = ssl.create_default_context(cafile=site.ca), {"Authorization": f"Key {KEY}"}

    with httpx2.Client(base_url=site.base, verify=trusting, timeout=60) as client:
        answer = client.post(path, json=body, headers=headers)

    assert (answer.status_code in {200, 201, 202}) == accepted, answer.text
    assert accepted or (answer.status_code == 422 and "prompt" in answer.text)
