"""Speech on this machine: a neural voice, without an account and without a network.

The voice is that of `hibari-tts` (Apache-2.0), which the extra ``fleek[speech]`` installs. It speaks
in processes of its own, so that nothing it does can delay or end the service.

Source: https://github.com/MMWilliams/hibari, 0.2.1.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.util import find_spec

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleek.domain.errors import ConfigurationError
from fleek.environment import SOURCE, Seconds, read
from fleek.providers.base import Provider
from fleek.providers.local.processes import Processes
from fleek.providers.local.provider import LocalProvider
from fleek.settings import Settings

__all__ = ["LocalProvider", "LocalSettings", "connect"]


class LocalSettings(BaseSettings):
    """Read from ``LOCAL_*``."""

    model_config = SOURCE | SettingsConfigDict(env_prefix="LOCAL_")

    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Maximum number of processes that speak; each uses one core and about 200 MB.",
    )
    max_seconds: Seconds = Field(
        default=timedelta(seconds=300),
        gt=timedelta(0),
        le=timedelta(hours=1),
        description="Maximum time for speaking one text.",
    )


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting is wrong, or the extra is not installed.
    """
    settings, dispatch = read(LocalSettings), read(Settings).dispatch
    if dispatch != "embedded":
        raise ConfigurationError(
            f"PROVIDERS: with DISPATCH={dispatch}, another process polls what one has started, so "
            "local speech needs DISPATCH=embedded"
        )
    if find_spec("hibari") is None:
        raise ConfigurationError("PROVIDERS: local needs the voice: pip install 'fleek[speech]'")
    processes = Processes(settings.processes, seconds=settings.max_seconds.total_seconds())
    provider = LocalProvider(processes, limit=settings.processes)
    try:
        yield provider
    finally:
        await provider.close()
