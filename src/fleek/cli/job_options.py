"""The options of a command that makes a job: the model, its parameters, files and times."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fleek.cli.completion import complete_model, complete_parameter
from fleek.cli.options import Session, moment, typed
from fleek.domain.job import OnInputCancel

REFERENCE: Final = re.compile(r"https?://|data:|(upload|job):")  # what a server understands

ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="A name of the catalogue, or owner/name; default: the server's default model. If it is given "
        "several times, the next one is used when the job cannot be done at one.",
        metavar="NAME",
        autocompletion=complete_model,
    ),
]
RouteOption = Annotated[
    str | None,
    typer.Option(
        metavar="ORDER", help="Of several models or routes: listed, cheapest or fastest first."
    ),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="KEY=VALUE",
        help="A parameter of the model: -p width=1024. May be given several times.",
        autocompletion=complete_parameter,
    ),
]
ParametersOption = Annotated[
    str | None, typer.Option(metavar="JSON", help="Parameters of the model, as an object.")
]
MetadataOption = Annotated[
    str | None, typer.Option(metavar="JSON", help="Your own object, stored with the job.")
]
ProviderOption = Annotated[str | None, typer.Option(help="The provider to use.")]
PriorityOption = Annotated[int | None, typer.Option(help="0-9; jobs with 9 start first.")]
RunAtOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Not before this time: 2026-12-24T18:00, or 2h from now."),
]
DeadlineOption = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Maximum duration of the job.")
]
MaxAttemptsOption = Annotated[
    int | None, typer.Option(help="Maximum number of attempts, including the first.")
]


InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=@FILE",
        help="A file for a parameter of the model: -i image=@cat.png; or a reference to one: "
        "-i image=https://… May be given several times.",
    ),
]


ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="The picture to begin with; short for -i image=@FILE. Also an address, or job:ID.",
    ),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", help="A tag of the job. May be given several times."),
]


OnInputCancelOption = Annotated[
    OnInputCancel | None,
    typer.Option(
        "--on-input-cancel",
        help="What follows if a job whose output it needs is cancelled; default: fail.",
    ),
]
MaxCostOption = Annotated[
    str | None,
    typer.Option(metavar="USD", help="The most that the job may cost, such as 0.25."),
]
ReuseOption = Annotated[
    float | None,
    typer.Option(
        "--reuse",
        metavar="SECONDS",
        min=0,
        help="Take the files of an equal job that completed within this time, if there is one.",
    ),
]


def job_request(
    *,
    model: ModelOption = None,
    route: RouteOption = None,
    parameter: ParameterOption = None,
    parameters: ParametersOption = None,
    metadata: MetadataOption = None,
    provider: ProviderOption = None,
    priority: PriorityOption = None,
    run_at: RunAtOption = None,
    deadline: DeadlineOption = None,
    max_attempts: MaxAttemptsOption = None,
    media: InputOption = None,
    on_input_cancel: OnInputCancelOption = None,
    reuse: ReuseOption = None,
    max_cost: MaxCostOption = None,
    image: ImageOption = None,
    tag: TagOption = None,
) -> dict[str, Any]:
    """Return the arguments of `fleek.Client.submit` other than the prompt; see `with_uploads`."""
    merged = _object("--parameters", parameters)
    merged.update(_assignment(assignment) for assignment in parameter or ())
    merged.update(_input(assignment) for assignment in media or ())
    merged.update({} if image is None else {"image": _image(image)})
    return {
        "model": model[0] if model and len(model) == 1 else None,
        "models": model if model and len(model) > 1 else None,
        "route": route,
        "parameters": merged or None,
        "metadata": _object("--metadata", metadata) or None,
        "provider": provider,
        "priority": priority,
        "run_at": None if run_at is None else moment(run_at, "--run-at"),
        "deadline_seconds": deadline,
        "max_attempts": max_attempts,
        "on_input_cancel": None if on_input_cancel is None else on_input_cancel.value,
        "reuse_seconds": reuse,
        "max_cost": max_cost,
        "tags": tag or None,
    }


def with_uploads(session: Session, request: dict[str, Any]) -> dict[str, Any]:
    """Return the request with its local files uploaded.

    Raises:
        FleekError: A file cannot be read or uploaded.
    """
    given = request["parameters"] or {}
    uploaded = {
        name: session.client.upload(value).reference
        for name, value in given.items()
        if isinstance(value, Path)
    }
    return {**request, "parameters": {**given, **uploaded}} if uploaded else request


def _input(text: str) -> tuple[str, str | Path]:
    """Read ``name=@file``, or ``name=reference``."""
    name, sign, value = text.partition("=")
    if not sign or not name or value in {"", "@"}:
        raise typer.BadParameter("must be NAME=@FILE, like image=@cat.png", param_hint="-i")
    return typed(name), Path(value[1:]) if value.startswith("@") else typed(value)


def _image(text: str) -> str | Path:
    """Read a file, or a reference to one."""
    return typed(text) if REFERENCE.match(text) else Path(text.removeprefix("@"))


def _object(option: str, text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(typed(text))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter(
            "must be a JSON object, like '{\"width\": 1024}'", param_hint=option
        )
    return value


def _assignment(text: str) -> tuple[str, Any]:
    """Read ``key=value``; a value that is no JSON is text."""
    key, sign, value = typed(text).partition("=")
    if not sign or not key:
        raise typer.BadParameter("must be KEY=VALUE, like width=1024", param_hint="-p")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value
