"""What commands share: the session with a server, options, times, and how a command declares them."""

import inspect
import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from fleek.cli.screen import Screen
from fleek.domain.job import OnInputCancel
from fleek.system_clock import wall_time

if TYPE_CHECKING:
    from fleek.client import Client


class Session:
    """A server's client, opened when it is first used, and the screen."""

    def __init__(
        self, url: str, *, api_key: str | None, as_json: bool, quiet: bool, no_color: bool
    ) -> None:
        self._url = url
        self._api_key = api_key
        self.screen = Screen(as_json=as_json, quiet=quiet, no_color=no_color)

    @cached_property
    def client(self) -> "Client":
        """The server's client.

        Raises:
            ConfigurationError: The address or the key cannot be used.
        """
        from fleek.client import Client  # noqa: PLC0415 - heavy

        return Client(self._url, api_key=self._api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "client" in self.__dict__:
            self.client.close()


SPAN: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([dhm])")
UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}
LONGEST: Final = timedelta(days=100_000)  # no calendar goes much further, back or forth


def moment(text: str, option: str) -> datetime:
    """Read a time like ``2026-12-24T18:00``, the user's unless it names a zone, or ``2h`` from now.

    Raises:
        typer.BadParameter: It is neither.
    """
    try:
        later = _span(text)
        if later is not None:
            return wall_time() + later
        time = datetime.fromisoformat(text)
        return time if time.tzinfo is not None else time.astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "must be a time like 2026-12-24T18:00 (yours) or 2026-12-24T18:00:00Z, "
            "or from now: 1d, 2h or 5m",
            param_hint=option,
        ) from None


def age(text: str, option: str) -> timedelta:
    """Read how long ago something is: ``30d``, ``12h`` or ``5m``.

    Raises:
        typer.BadParameter: It has another form.
    """
    span = _span(text)
    if span is None:
        raise typer.BadParameter("must be like 30d, 12h or 5m", param_hint=option)
    return span


def _span(text: str) -> timedelta | None:
    match = SPAN.fullmatch(text)
    span = timedelta(**{UNITS[match[2]]: float(match[1])}) if match else LONGEST
    return span if span < LONGEST else None


Command = Callable[..., None]
Group = Callable[..., object]


def command(app: typer.Typer, name: str, **groups: Group) -> Callable[[Command], Command]:
    """Register a command that takes groups of options beside its own.

    A group is a function: its parameters become options of the command, and what it returns is
    handed to the command under the group's name, entered first if it is a context manager.
    """

    def register(function: Command) -> Command:
        taken = {
            group: inspect.signature(make, eval_str=True).parameters
            for group, make in groups.items()
        }
        own = inspect.signature(function, eval_str=True).parameters

        @wraps(function)
        def run(**given: Any) -> None:
            with ExitStack() as stack:
                for group, make in groups.items():
                    made = make(**{option: given.pop(option) for option in taken[group]})
                    if isinstance(made, AbstractContextManager):
                        made = stack.enter_context(made)
                    given[group] = made
                function(**given)

        options = [own[option] for option in own if option not in groups]
        options += [option for group in taken.values() for option in group.values()]
        keyword = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
        run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined] # PEP 362
        run.__annotations__ = {}
        app.command(name)(run)
        return function

    return register


def typed(text: str) -> str:
    """Return a text as its bytes say it in UTF-8, though the locale could not read them.

    Names of files are left alone: the system takes their bytes as they came.
    """
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        return text


SERVER: Final = "Server and output"

UrlOption = Annotated[
    str,
    typer.Option(
        "--url", envvar="FLEEK_URL", help="The server's address.", rich_help_panel=SERVER
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="FLEEK_API_KEY",
        help="The API key to send to the server.",
        rich_help_panel=SERVER,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Write JSON to stdout.", rich_help_panel=SERVER)
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Write nothing but data and errors.", rich_help_panel=SERVER
    ),
]
NoColorOption = Annotated[
    bool,
    typer.Option(
        "--no-color", help="Write without colours, as with NO_COLOR.", rich_help_panel=SERVER
    ),
]


def connected(
    *,
    url: UrlOption = "http://127.0.0.1:8000",
    api_key: KeyOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
) -> Session:
    """Open the session of a user's command."""
    return Session(url, api_key=api_key, as_json=as_json, quiet=quiet, no_color=no_color)


ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="A name of the catalogue, or owner/name; default: the server's default model. If it is given "
        "several times, the next one is used when the job cannot be done at one.",
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


OnInputCancelOption = Annotated[
    OnInputCancel | None,
    typer.Option(
        "--on-input-cancel",
        help="What follows if a job whose output it needs is cancelled; default: fail.",
    ),
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
) -> dict[str, Any]:
    """Return the arguments of `fleek.Client.submit` other than the prompt; see `with_uploads`."""
    merged = _object("--parameters", parameters)
    merged.update(_assignment(assignment) for assignment in parameter or ())
    merged.update(_input(assignment) for assignment in media or ())
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
