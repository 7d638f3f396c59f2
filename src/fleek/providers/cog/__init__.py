"""Cog: a self-hosted model, served over HTTP by the server of the `cog` package.

A Cog server stores nothing: running predictions can be polled, ended ones are forgotten, and each
result is sent once. With ``PUBLIC_URL``, the server sends it to the attempt's callback URL and
repeats that for minutes, so a crash of Fleek loses nothing. Without it, the connection that
started the prediction stays open until its end (`runs.py`), and the server stops the prediction
when the connection closes: a crash of Fleek loses that run, but two runs never overlap. A
prediction that no longer runs and whose result is not received in time counts as failed; the engine
makes another attempt, whose connection stays open.

Source: https://github.com/replicate/cog, its pages on HTTP and ``crates/coglet``.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections, tls_context
from fleek.providers.base import Provider
from fleek.providers.cog.provider import CogProvider
from fleek.providers.cog.settings import CogSettings, callback_base
from fleek.providers.cog.wire import ANSWER_SECONDS, Wire
from fleek.providers.http import authorization, open_api
from fleek.settings import Settings

__all__ = ["CogProvider", "CogSettings", "connect"]

log = structlog.get_logger(__name__)


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    settings, service = read(CogSettings), read(Settings)
    callbacks = callback_base(service.public_url, settings.url)
    holds = service.dispatch == "embedded"
    if callbacks is None and not holds:
        raise ConfigurationError(
            f"PUBLIC_URL: with DISPATCH={service.dispatch}, a Cog server's results need a callback "
            "address: https, or any address if COG_URL is on this machine"
        )
    if callbacks is None:
        log.info("cog_without_callbacks", reason="PUBLIC_URL is not set: connections stay open")
    token, tls, policy = settings.token, tls_context(), settings.policy
    headers = None if token is None else authorization(token.get_secret_value())
    async with AsyncExitStack() as stack:
        api = open_api(settings.url, headers=headers, read=ANSWER_SECONDS, tls=tls, limit=0)
        stack.push_async_callback(api.close)
        files = Client(policy, Connections(policy, tls=tls), read=ANSWER_SECONDS)
        stack.push_async_callback(files.close)
        provider = CogProvider(settings, Wire(api), files, callbacks=callbacks, holds=holds)
        stack.push_async_callback(provider.runs.close)
        yield provider
