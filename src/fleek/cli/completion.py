"""What a shell completes that only the server knows: ids of jobs, models and their parameters.

Nothing is shown if the server does not answer at once: a shell waits for it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from fleek.client import Client

SECONDS: Final = 2.0  # for the answer of the server
JOBS: Final = 30  # the newest ones
Completion = list[tuple[str, str]]


def complete_job(ctx: typer.Context, incomplete: str) -> Completion:
    """Complete the id of one of the newest jobs."""
    found: Completion = [("@last", "the newest job")]
    with _client(ctx) as client:
        found += [(str(job.id), _one_line(job.prompt)) for job in client.jobs(limit=JOBS)]
    return _beginning(found, incomplete)


def complete_model(ctx: typer.Context, incomplete: str) -> Completion:
    """Complete the name of a model that the server can run."""
    found: Completion = []
    with _client(ctx) as client:
        found += [
            (model.name, _one_line(model.description)) for model in client.models(available=True)
        ]
    return _beginning(found, incomplete)


def complete_parameter(ctx: typer.Context, incomplete: str) -> Completion:
    """Complete the name of a parameter of the chosen model, and its value if there is a choice."""
    found: Completion = []
    with _client(ctx) as client:
        for name, schema in _schemas(client, ctx.params.get("model")):
            about = _one_line(str(schema.get("description", "")))
            choices = schema.get("enum")
            values = choices if isinstance(choices, list) else [""]
            found += [(f"{name}={value}", about) for value in values]
    return _beginning(found, incomplete)


def _schemas(client: "Client", chosen: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    names = [chosen] if isinstance(chosen, str) else list(chosen or ())
    models = [client.model(names[0])] if names else client.models(available=True)
    default = next((model for model in models if names or model.default), None)
    if default is not None and default.parameters is None:
        default = client.model(default.name)
    properties = ((default and default.parameters) or {}).get("properties")
    if isinstance(properties, dict):
        yield from ((name, each) for name, each in properties.items() if isinstance(each, dict))


@contextmanager
def _client(ctx: typer.Context) -> "Iterator[Client]":
    from fleek.client import Client, RetryPolicy  # noqa: PLC0415 - heavy
    from fleek.domain.errors import FleekError  # noqa: PLC0415 - not needed for help

    given = ctx.params
    once = RetryPolicy(attempts=1)
    try:
        with Client(
            given.get("url"), api_key=given.get("api_key"), timeout=SECONDS, retry_policy=once
        ) as client:
            yield client
    except FleekError:
        return


def _one_line(text: str) -> str:
    return " ".join(text.split())[:60]


def _beginning(found: Iterable[tuple[str, str]], incomplete: str) -> Completion:
    return [(value, about) for value, about in found if value.startswith(incomplete)]
