"""OpenAI, and servers that are compatible with it: vLLM-Omni, SGLang-Diffusion, LocalAI, LiteLLM.

Images and speech are the response to the request that starts them: a lost response cannot be found
again. Videos are jobs that are polled.

Source: https://platform.openai.com/docs/api-reference, the types of the package `openai` 3.57.0,
``entrypoints/openai`` of `vllm-omni` 0.30.0 and of `sglang` 0.5.23.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleek.domain.job import MODEL_NAME
from fleek.environment import SOURCE, Listed, Tokens, cleaned, read
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections, tls_context
from fleek.providers.accounts import keys_of, open_accounts
from fleek.providers.base import Provider
from fleek.providers.http import authorization, open_api
from fleek.providers.openai.models import KINDS, read_models
from fleek.providers.openai.provider import OpenAIProvider

__all__ = ["OpenAIProvider", "OpenAISettings", "connect"]

PAID: Final = "api.openai.com"


def _base(value: str) -> str:
    value = cleaned(value)
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise ValueError("must be an address such as http://127.0.0.1:8000/v1")
    base = value.rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


def _listed(value: tuple[str, ...]) -> tuple[str, ...]:
    for entry in value:
        kind, _, name = entry.partition(":")
        if kind not in KINDS or MODEL_NAME.fullmatch(name) is None:
            raise ValueError("must be entries such as image:gpt-image-2.5-flare or speech:tts-1")
    return value


class OpenAISettings(BaseSettings):
    """Read from ``OPENAI_*``; the first two have the names that OpenAI's own client uses."""

    model_config = SOURCE | SettingsConfigDict(env_prefix="OPENAI_")

    api_key: Tokens = Field(
        default=None,
        description="The key of the account, or of the server if it needs one. If it is set and "
        "`PROVIDERS` is not, the provider `openai` is opened in addition to the default one. Several "
        "accounts share the work: their keys are separated by commas.",
    )
    base_url: Annotated[str, AfterValidator(_base)] = Field(
        default=f"https://{PAID}/v1",
        description="The API's address, with or without `/v1`: OpenAI's, or that of a compatible "
        "server.",
    )
    models: Annotated[Listed, AfterValidator(_listed)] = Field(
        default=(
            "image:gpt-image-2.5-flare",
            "image:gpt-image-2.5-sunburst",
            "speech:gpt-4o-mini-tts",
            "speech:tts-1",
            "speech:tts-1-hd",
        ),
        description="The models, each with its kind: `image:NAME`, `speech:NAME` or `video:NAME`. "
        "The first one is the default.",
    )
    repeats: bool = Field(
        default=False,
        description="Whether a request whose outcome is unknown may be repeated, as on a server of "
        "your own, where it costs time and no money.",
    )
    voice: str | None = Field(
        default=None,
        description="The voice of speech if the request names none. Default: `alloy` at OpenAI, "
        "which needs one, else the server's own.",
    )
    creates_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of predictions started per minute, by each account. Default: unlimited.",
    )
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of concurrent predictions, of each account. Default: unlimited.",
    )
    max_output_bytes: int = Field(
        default=2 * 1024**3, ge=1024, description="Maximum size of an output file in bytes."
    )

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI itself."""
        return urlsplit(self.base_url).hostname == PAID

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.api_key is None and self.is_openai:
            raise ValueError(
                "OPENAI_API_KEY: must be set to the account's key, or OPENAI_BASE_URL to the "
                "address of another server"
            )
        return self


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting is wrong, or there is no key.
    """
    settings = read(OpenAISettings)
    keys = keys_of(settings.api_key) or [""]
    async with open_accounts(keys, partial(_open_account, settings)) as provider:
        yield provider


@asynccontextmanager
async def _open_account(settings: OpenAISettings, key: str) -> AsyncGenerator[OpenAIProvider]:
    tls = tls_context()
    headers = authorization(key) if key else None
    base = AllowedHost.of(settings.base_url)
    own, public = Policy(patterns=(), named=(base,)), Policy(named=(base,))
    async with AsyncExitStack() as stack:
        api = open_api(settings.base_url, headers=headers, tls=tls, limit=0)
        stack.push_async_callback(api.close)
        content = Client(own, Connections(own, tls=tls), headers=headers)
        stack.push_async_callback(content.close)
        files = Client(public, Connections(public, tls=tls))
        stack.push_async_callback(files.close)
        yield OpenAIProvider(
            api,
            content,
            files,
            base_url=settings.base_url,
            models=read_models(settings.models),
            repeats=settings.repeats,
            voice=settings.voice or ("alloy" if settings.is_openai else None),
            creates_per_minute=settings.creates_per_minute,
            max_concurrency=settings.max_concurrency,
            max_output_bytes=settings.max_output_bytes,
        )
