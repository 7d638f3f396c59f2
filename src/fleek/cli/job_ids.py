"""Which job is meant: a whole id, the end or the beginning of one, or ``@last``."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from fleek.cli.completion import complete_job
from fleek.domain.errors import NotFound

if TYPE_CHECKING:
    from fleek.client import Client

LAST: Final = "@last"
SHORT: Final = re.compile(r"[0-9a-f-]{4,35}")
SEARCHED: Final = 1000  # the newest jobs, in which a part of an id is looked for
HELP: Final = "An id, its first or last characters (at least 4), or @last: the newest job."

JobId = Annotated[str, typer.Argument(metavar="ID", help=HELP, autocompletion=complete_job)]
JobIds = Annotated[list[str], typer.Argument(metavar="ID", help=HELP, autocompletion=complete_job)]
SomeJobIds = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help=HELP, autocompletion=complete_job)
]


def whole_ids(client: "Client", texts: Iterable[str]) -> list[UUID]:
    """Return the ids that are meant, each once.

    Raises:
        BadParameter: A text is no id, or several of the newest jobs have it in theirs.
        NotFound: None of the newest jobs has it.
        FleekError: See `fleek.client.errors`.
    """
    forms = [_form(text) for text in texts]  # all, before the first request
    return list(
        dict.fromkeys(form if isinstance(form, UUID) else _found(client, form) for form in forms)
    )


def whole_id(client: "Client", text: str) -> UUID:
    """Return the id that is meant; see `whole_ids`."""
    return whole_ids(client, [text])[0]


def _form(text: str) -> UUID | str:
    try:
        return UUID(text)
    except ValueError:
        short = text.lower()
    if short != LAST and SHORT.fullmatch(short) is None:
        raise typer.BadParameter(
            f"{text!r} must be a job's id, at least 4 characters of one, or {LAST}",
            param_hint="ID",
        )
    return short


def _found(client: "Client", short: str) -> UUID:
    if short == LAST:
        newest = next(iter(client.jobs(limit=1)), None)
        if newest is None:
            raise NotFound("there are no jobs yet")
        return newest.id
    jobs = client.jobs(limit=SEARCHED)
    same = (job.id for job in jobs if str(job.id).startswith(short) or str(job.id).endswith(short))
    match list(islice(same, 3)):
        case []:
            raise NotFound(
                f"none of the newest {SEARCHED} jobs has {short} in its id; give all of it"
            )
        case [found]:
            return found
        case several:
            shown = ", ".join(map(str, several))
            raise typer.BadParameter(f"{short} is in several ids: {shown}", param_hint="ID")
