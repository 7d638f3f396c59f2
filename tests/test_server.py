"""The start of the server waits for temporary errors."""

import socket
from types import SimpleNamespace

import pytest

from backing_services import free_port
from fleek import server, worker
from fleek.domain.errors import DatabaseUnavailable, HostError, StorageFull
from fleek.engine.clock import Clock
from fleek.settings import Settings


class Started(Exception):
    """The start has reached the application."""


@pytest.mark.parametrize("step", ["migrate", "clock"])
@pytest.mark.parametrize("error", [DatabaseUnavailable("no answer"), StorageFull("full")], ids=str)
async def test_the_start_waits_for_a_refusing_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: HostError, step: str
) -> None:
    """As for an unreachable one."""
    failures = [error, error]

    async def fails(*_: object) -> None:
        if failures:
            raise failures.pop()

    def started(_: object) -> None:
        raise Started

    monkeypatch.setattr(*{"migrate": (server, "migrate"), "clock": (Clock, "set")}[step], fails)
    monkeypatch.setattr(server, "create_app", started)
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.001)

    with socket.socket() as listener, pytest.raises(Started):
        await server._serve(settings, listener, lambda: None, with_worker=False)

    assert failures == []


def test_the_backlog_holds_thousands_of_connections(settings: Settings) -> None:
    """The system drops those beyond it; they retry after one, three and seven seconds."""
    metrics = SimpleNamespace(http_refusals=None)
    runtime = SimpleNamespace(metrics=metrics)
    state = SimpleNamespace(runtime=runtime, write_limits=None, error_forms=None)

    config = server._config(settings, SimpleNamespace(state=state))

    assert config.backlog >= 4096  # what Linux allows, unless net.core.somaxconn is changed


def test_no_program_inherits_the_port(settings: Settings) -> None:
    """Those that outlive a killed service for a moment must not keep the next one from its port."""
    changed = settings.model_copy(update={"api_port": free_port()})

    with server._listen(changed) as listener:
        assert not listener.get_inheritable()
