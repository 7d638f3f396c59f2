"""The two transports: stdin and stdout of this process, and streamable HTTP."""

import asyncio
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from socket import socket
from sys import __stdout__
from typing import Final

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

from fleek.client import AsyncClient
from fleek.client.exchange import LOOPBACK, server_url
from fleek.domain.errors import ConfigurationError
from fleek.mcp_server.tools import Tools, server_of

PATH: Final = "/mcp"
MAX_BODY_BYTES: Final = 96 * 1_048_576
"""Largest request over HTTP: an upload of 64 MiB in base64 fits."""
GRACE_SECONDS: Final = 5


def serve_stdio(url: str, *, api_key: str | None, folders: Sequence[Path]) -> None:
    """Serve one caller on stdin and stdout until it closes stdin; uses the given key.

    Raises:
        ConfigurationError: The address or the key cannot be used.
    """

    def opened(_key: str | None) -> AsyncClient:
        return AsyncClient(url, api_key=api_key)

    opened(None)  # refuses an unusable address or key now
    server = server_of(Tools(opened, folders=folders), by_path=True)
    with redirect_stdout(__stdout__):
        anyio.run(server.run_stdio_async)


def serve_http(url: str, *, host: str, port: int, allowed_hosts: Sequence[str]) -> None:
    """Serve callers over streamable HTTP until SIGTERM or SIGINT; each sends its own key.

    No session is kept, so a restart is not noticed.

    Raises:
        ConfigurationError: The address of the service or of this server cannot be used.
    """
    if host not in LOOPBACK and not allowed_hosts:
        raise ConfigurationError(
            f"--host {host} is not a loopback address: name the hosts that callers use, with --allowed-host"
        )
    server_url(url)
    tools = Tools(lambda key: AsyncClient(url, api_key=key or ""), folders=[])
    app = server_of(tools, by_path=False).streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=_security(allowed_hosts),
        host=host,
    )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Announced(config)
    server.run()
    if not server.started:
        raise ConfigurationError(f"--port {port}: cannot listen on {host}")


class _Announced(uvicorn.Server):
    """Prints its address once it listens; ends with 0 when it is told to stop."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Stop on a signal, without raising it again at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets=sockets)
        if self.started:
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            print(f"Fleek MCP is ready: http://{host}:{self.config.port}{PATH}", flush=True)  # noqa: T201 - for whoever started it


def _security(allowed_hosts: Sequence[str]) -> TransportSecuritySettings:
    """Refuse web pages that resolve their own name to this address (DNS rebinding)."""
    local = ["127.0.0.1:*", "localhost:*", "[::1]:*"]
    hosts = [*local, *allowed_hosts, *(f"{host}:*" for host in allowed_hosts)]
    origins = [f"http://{host}" for host in local]
    origins += [f"{scheme}://{host}" for host in allowed_hosts for scheme in ("https", "http")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
