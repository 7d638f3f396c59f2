"""What commands share: the session with a server, options, times, and how a command declares them."""

import inspect
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from uuid import UUID

import typer

from fleek.cli.job_ids import whole_id, whole_ids
from fleek.cli.screen import Screen
from fleek.system_clock import wall_time

if TYPE_CHECKING:
    from fleek.client import Client


class Session:
    """A server's client, opened when it is first used, and the screen."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        as_json: bool,
        quiet: bool,
        no_color: bool,
        timeout: float | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout  # seconds; None: unlimited for a job, see `ANSWER` for a request
        self._api_key = api_key
        self.screen = Screen(as_json=as_json, quiet=quiet, no_color=no_color)

    @cached_property
    def client(self) -> "Client":
        """The server's client.

        Raises:
            ConfigurationError: The address or the key cannot be used.
        """
        from fleek.cli.slow import SlowNotice  # noqa: PLC0415 - heavy
        from fleek.client import Client, RetryPolicy  # noqa: PLC0415 - heavy

        self._slow = SlowNotice(self.screen, self.url)
        longest = ANSWER if self.timeout is None else min(max(self.timeout, SHORTEST), ANSWER)
        return Client(
            self.url,
            api_key=self._api_key,
            timeout=longest,
            retry_policy=RetryPolicy(total_seconds=longest),
            event_hooks=self._slow.hooks,
        )

    def job(self, text: str) -> UUID:
        """Return the id of the job that is meant; see `fleek.cli.job_ids.whole_ids`."""
        return whole_id(self.client, text)

    def jobs(self, texts: Sequence[str]) -> list[UUID]:
        """Return the ids of the jobs that are meant; see `fleek.cli.job_ids.whole_ids`."""
        return whole_ids(self.client, texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "client" in self.__dict__:
            self._slow.stop()
            self.client.close()


ANSWER: Final = 30.0  # seconds for one answer and all of its retries
SHORTEST: Final = 1.0  # of --timeout, for a request

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


def past(text: str | None, option: str) -> datetime | None:
    """Read a time like ``2026-12-24T18:00``, or how long ago it was: ``2h``; None is no time.

    Raises:
        typer.BadParameter: It is neither.
    """
    if text is None:
        return None
    span = _span(text)
    return moment(text, option) if span is None else wall_time() - span


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
        """Register the function, with the options of the groups in its signature."""
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


TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0,
        help="Stop waiting after this time; jobs continue. Default: 30 for an answer of the server, "
        "unlimited for a job.",
        rich_help_panel=SERVER,
    ),
]


def connected(
    *,
    url: UrlOption = "http://127.0.0.1:8000",
    api_key: KeyOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
    timeout: TimeoutOption = None,
) -> Session:
    """Open the session of a user's command."""
    return Session(
        url,
        api_key=api_key,
        as_json=as_json,
        quiet=quiet,
        no_color=no_color,
        timeout=timeout,
    )
