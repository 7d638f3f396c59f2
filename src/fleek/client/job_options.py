"""What a job may be asked for besides its prompt: the options of `submit`, `generate` and `run`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import Any, Final, TypedDict

from fleek.domain.errors import InvalidInput


class JobOptions(TypedDict, total=False):
    """Options of a new job. What is None or not given has the default of the server."""

    model: str | None
    """``owner/name``, or a name of the catalogue."""
    models: Sequence[str] | None
    """In place of `model`: names in order of preference. The job goes on at the next one when it is
    certain not to be paid for at this one any more."""
    route: str | None
    """The order of several models or routes: "listed", "cheapest" or "fastest"."""
    parameters: Mapping[str, Any] | None
    """Parameters of the model. One that takes a file is a path, bytes or a binary file, which is
    uploaded first; or the `reference` of an upload, ``job:ID`` for the output of another job, an https
    address, or a ``data:`` URI."""
    strict_parameters: bool | None
    """Whether a parameter that a model of the catalogue cannot express is refused."""
    metadata: Mapping[str, Any] | None
    """Your own object, stored with the job."""
    tags: Sequence[str] | None
    priority: int | None
    """0-9; jobs with 9 start first."""
    run_at: datetime | None
    """Not before this time, which must have a time zone."""
    deadline_seconds: float | None
    """Maximum duration of the job."""
    max_attempts: int | None
    """Maximum number of attempts, including the first."""
    provider: str | None
    max_cost: str | None
    """The most that the job may cost, in US dollars, such as "0.25"."""
    on_input_cancel: str | None
    """"fail" or "cancel": what follows if a job whose output it needs is cancelled."""
    reuse_seconds: float | None
    """Take the files of an equal job that completed within this time."""
    webhook_url: str | None
    webhook_events: Sequence[str] | None
    idempotency_key: str | None
    """Calls with the same key return the same job, also from another process. Default: a new key per
    call, which covers the client's own retries."""


NAMES: Final = {"model": "model_name"}
"""Options whose field of the request has another name."""


def job_fields(prompt: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the request that creates a job, without the idempotency key.

    Raises:
        TypeError: There is no such option.
    """
    unknown = sorted(options.keys() - JobOptions.__annotations__.keys())
    if unknown:
        raise TypeError(
            f"{unknown[0]!r} is not an option of a job; a model's own are `parameters`"
        )
    fields: dict[str, Any] = {"prompt": prompt}
    for name, value in options.items():
        if name != "idempotency_key":
            fields[NAMES.get(name, name)] = _plain(value)
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple | set) else value


def prompt_of(given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the prompt in the input of `run`, and the other parameters; empty: there is none.

    Raises:
        InvalidInput: It is no text.
    """
    parameters = dict(given)
    prompt = parameters.pop("prompt", "")
    if not isinstance(prompt, str):
        raise InvalidInput("input: the prompt must be a text")
    return prompt, parameters


def file_in(value: Any) -> Path | bytes | None:
    """Return the file that is the value of a parameter; None: it is another value."""
    if isinstance(value, Path | bytes):
        return value
    if isinstance(value, BufferedIOBase | RawIOBase):
        return value.read()
    return None
