"""ComfyUI: workflows of one's own server as models.

Its runs cost no money, and their ids are chosen by Fleek, so a run whose outcome is unknown is
started again, unless the server's queue or history has it.

Source: ``server.py`` of https://github.com/comfyanonymous/ComfyUI, 0.3.64.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleek.domain.errors import ConfigurationError
from fleek.environment import SOURCE, Secret, cleaned, read
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections, tls_context
from fleek.outbound.sockets import Sockets
from fleek.providers.base import Provider
from fleek.providers.comfyui.progress import ProgressSockets
from fleek.providers.comfyui.provider import ComfyUIProvider
from fleek.providers.comfyui.workflows import Unusable, read_folder
from fleek.providers.http import authorization, open_api

__all__ = ["ComfyUIProvider", "ComfyUISettings", "connect"]


def _base(value: str) -> str:
    value = cleaned(value)
    parts = urlsplit(value)
    usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.username
    if not usable or parts.query or parts.fragment:
        raise ValueError("must be an address such as http://127.0.0.1:8188")
    return value.rstrip("/")


class ComfyUISettings(BaseSettings):
    """Read from ``COMFYUI_*``."""

    model_config = SOURCE | SettingsConfigDict(env_prefix="COMFYUI_")

    workflows: Path = Field(
        description="The folder of workflow templates, each a model. If it is set and `PROVIDERS` "
        "is not, the provider `comfyui` is opened in addition to the default one.",
    )
    url: Annotated[str, AfterValidator(_base)] = Field(
        default="http://127.0.0.1:8188", description="Address of the ComfyUI server."
    )
    token: Secret = Field(
        default=None, description="Bearer token sent to the server, for a proxy in front of it."
    )
    max_concurrency: int = Field(
        default=4,
        ge=1,
        description="Maximum number of runs in the server's queue. It executes one at a time; "
        "jobs beyond this wait in Fleek, by their priority.",
    )
    max_output_bytes: int = Field(
        default=2 * 1024**3, ge=1024, description="Maximum size of an output file in bytes."
    )


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting or a template is wrong.
    """
    settings, tls = read(ComfyUISettings), tls_context()
    try:
        workflows = read_folder(settings.workflows)
    except Unusable as error:
        raise ConfigurationError(f"COMFYUI_WORKFLOWS: {error}") from error
    token = settings.token
    headers = None if token is None else authorization(token.get_secret_value())
    policy = Policy(patterns=(), named=(AllowedHost.of(settings.url),))
    async with AsyncExitStack() as stack:
        api = open_api(settings.url, headers=headers, tls=tls, limit=0)
        stack.push_async_callback(api.close)
        connections = Connections(policy, tls=tls)
        content = Client(policy, connections, headers=headers)
        stack.push_async_callback(content.close)
        progress = ProgressSockets(Sockets(policy, connections, headers=headers), settings.url)
        stack.push_async_callback(progress.close)
        yield ComfyUIProvider(
            api,
            content,
            base_url=settings.url,
            workflows=workflows,
            max_concurrency=settings.max_concurrency,
            max_output_bytes=settings.max_output_bytes,
            progress=progress,
        )
