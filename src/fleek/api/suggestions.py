"""Suggestions for mistakes in requests: what an unknown name was probably meant to be.

Names come from outside: they are compared only if they are short, and never repeated. Source for the
names of other services: their API references.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel

from fleek.domain.text import closest
from fleek.domain.values import dataclass

_NAMES: Final = """
    apply_watermark aspect_ratio audio background batch_size caption cfg cfg_scale
    disable_safety_checker duration enable_safety_checker end_image extra_lora extra_lora_scale
    first_frame_image fps frames frames_per_second go_fast guidance guidance_scale height
    high_noise_frac image image_prompt image_size image_url input_image last_frame_image length
    lora lora_scale lora_weights loras mask megapixels n negative_prompt num_frames num_images
    num_inference_steps num_outputs output_format output_quality prompt_strength
    prompt_upsampling quality raw refine refine_steps resolution safety_tolerance sampler
    scheduler seed size start_image steps strength style tempo verses video voice width
"""
MODEL_PARAMETERS: Final = frozenset(_NAMES.split())
"""Names that models of media commonly give to their parameters."""

FIELD_ALIASES: Final[Mapping[str, str]] = {
    "text": "prompt",
    "description": "prompt",
    "params": "parameters",
    "args": "parameters",
    "arguments": "parameters",
    "user": "metadata",
    "delay": "run_at",
    "scheduled_at": "run_at",
    "start_at": "run_at",
    "timeout": "deadline_seconds",
    "retries": "max_attempts",
    "max_retries": "max_attempts",
    "favorite": "favourite",
    "labels": "tags",
}
QUERY_ALIASES: Final[Mapping[str, str]] = {
    "page": "offset",
    "skip": "offset",
    "per_page": "limit",
    "page_size": "limit",
    "sort": "order",
    "state": "status",
    "search": "q",
    "query": "q",
    "prompt": "q",
    "favorite": "favourite",
    "since": "created_after",
    "until": "created_before",
    "force": "again",
}
PATH_ALIASES: Final[Mapping[str, tuple[str, str]]] = {  # whose address, and ours
    "/v1/predictions": ("Replicate", "/api/v1/generate"),
    "/v1/predictions/*": ("Replicate", "/api/v1/jobs/{job_id}"),
    "/v1/models/*/*/predictions": ("Replicate", "/api/v1/generate"),
    "/v1/images/generations": ("OpenAI", "/api/v1/generate"),
    "/v1/videos": ("OpenAI", "/api/v1/generate"),
}
LONGEST_PATH: Final = 128  # characters
MASKED: Final = re.compile(r"[^/]*[0-9][^/]{5,}|\{[^/]*\}")  # a segment that is an id
ANY: Final = "*"
VERSION: Final = re.compile(r"^(/api)?(/v[0-9])?(?=/)")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What is wrong with a name, and what was probably meant."""

    detail: str
    target: str | None = None
    """JSON pointer into the same part of the request; for a path, the path itself; None: unknown."""


HEADERS: Final[Mapping[str, Suggestion]] = {
    "x-idempotency-key": Suggestion(
        "X-Idempotency-Key is not read; did you mean Idempotency-Key?", "/Idempotency-Key"
    ),
    "cancel-after": Suggestion(
        "Cancel-After is Replicate's header: put the seconds into deadline_seconds of the body"
    ),
}
"""Headers of other services that must not be ignored: the caller relies on them."""


def for_field(name: str, known: Collection[str]) -> Suggestion:
    """Suggest a field of the body in place of an unknown one; `known`: those of the same object."""
    if "parameters" in known and (special := _for_job_field(name)) is not None:
        return special
    meant = _meant(name, known, FIELD_ALIASES)
    if meant is None:
        return Suggestion("is not a field")
    return Suggestion(f'is not a field; did you mean "{meant}"?', f"/{meant}")


def _for_job_field(name: str) -> Suggestion | None:
    if name == "input":
        detail = (
            'is not a field. This is Replicate\'s form: the prompt belongs into "prompt", and the '
            'other values into "parameters"'
        )
        return Suggestion(detail, "/parameters")
    if name == "version":
        detail = (
            'is not a field. This is Replicate\'s form: name the model in "model_name", as '
            "owner/name:version"
        )
        return Suggestion(detail, "/model_name")
    if name in MODEL_PARAMETERS:
        return Suggestion('is not a field; it belongs into "parameters"', f"/parameters/{name}")
    return None


def for_query(name: str, known: Collection[str], body: Collection[str] = ()) -> Suggestion:
    """Suggest a query parameter in place of an unknown one; `body`: the fields of the body."""
    if name in body:
        return Suggestion("there is no such query parameter; it is a field of the body")
    meant = _meant(name, known, QUERY_ALIASES)
    if meant is None:
        return Suggestion("there is no such query parameter")
    return Suggestion(f"there is no such query parameter; did you mean {meant}?", f"/{meant}")


def for_path(path: str, templates: Iterable[str]) -> Suggestion | None:
    """Suggest a route in place of an unknown path; `templates`: the paths of all routes."""
    if len(path) > LONGEST_PATH:
        return None
    masked = MASKED.sub(ANY, path)
    if masked in PATH_ALIASES:
        owner, ours = PATH_ALIASES[masked]
        return Suggestion(f"This is an address of {owner}; use {ours} here.", ours)
    documented = sorted(templates, reverse=True)  # so version 1 counts, not the same without it
    by_name = {_without_version(template): template for template in documented}
    found = closest(_without_version(path), by_name)
    if found is None:
        return None
    return Suggestion(f"No such route; did you mean {by_name[found]}?", by_name[found])


def _without_version(path: str) -> str:
    return MASKED.sub(ANY, VERSION.sub("", path))


def _meant(name: str, known: Collection[str], aliases: Mapping[str, str]) -> str | None:
    alias = aliases.get(name)
    return alias if alias in known else closest(name, known)


def fields_at(model: Any, path: Iterable[Any]) -> Collection[str]:
    """Return the names of the fields that a request model has at a place of the body."""
    for name in path:
        field = model_fields(model).get(name)
        model = None if field is None else field.annotation
    return model_fields(model).keys()


def model_fields(annotation: Any) -> Mapping[str, Any]:
    """Return the fields of a model, also of one that may be null."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind.model_fields
    return {}
