"""fal as a provider: settings and `connect`. The adapter is in `provider.py`.

Source: https://docs.fal.ai/model-apis/model-endpoints/queue, and the packages `fal-client` 1.0.3 and
`@fal-ai/client` 1.10.1. Not run against fal itself.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Annotated, Self
from urllib.parse import urlsplit

import structlog
from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleek.domain.errors import NotFound
from fleek.domain.job import ModelName
from fleek.environment import SOURCE, Listed, Seconds, Tokens, cleaned, read
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections, tls_context
from fleek.providers.accounts import keys_of, open_accounts
from fleek.providers.base import Provider
from fleek.providers.download import Limits
from fleek.providers.fal.files import UPLOAD_SECONDS, FileStorage
from fleek.providers.fal.provider import AccountConfig, FalProvider
from fleek.providers.fal.wire import app_of
from fleek.providers.http import authorization, open_api
from fleek.settings import LOOPBACK, Settings

__all__ = ["FalProvider", "FalSettings", "connect"]

log = structlog.get_logger(__name__)


def _address(value: str) -> str:
    value = cleaned(value)
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise ValueError("must be an address such as https://queue.fal.run")
    return value.rstrip("/")


def _models(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for name in value:
            app_of(ModelName(name))
    except NotFound:
        raise ValueError("must be names such as fal-ai/flux/dev") from None
    if not value:
        raise ValueError("must name at least one model")
    return value


class FalSettings(BaseSettings):
    """Read from ``FAL_*``; the first has the name that fal's own clients use."""

    model_config = SOURCE | SettingsConfigDict(env_prefix="FAL_")

    key: Tokens = Field(
        default=None,
        description="The account's key, from https://fal.ai/dashboard/keys. If it is set and "
        "`PROVIDERS` is not, the provider `fal` is opened in addition to the default one. Several "
        "accounts share the work: their keys are separated by commas.",
    )
    queue_url: Annotated[str, AfterValidator(_address)] = Field(
        default="https://queue.fal.run",
        description="The queue's address; another one for an emulator.",
    )
    jwks_url: Annotated[str, AfterValidator(_address)] = Field(
        default="https://rest.fal.ai/.well-known/jwks.json",
        description="The address of the public keys by which callbacks are signed.",
    )
    rest_url: Annotated[str, AfterValidator(_address)] = Field(
        default="https://rest.fal.ai",
        description="The address of the API that permits uploads of large media inputs.",
    )
    cdn_url: Annotated[str, AfterValidator(_address)] = Field(
        default="https://v3.fal.media", description="The host that takes these files."
    )
    models: Annotated[Listed, AfterValidator(_models)] = Field(
        default=("fal-ai/flux/schnell", "fal-ai/flux/dev"),
        description="The models that are listed; any other `owner/app` or `owner/app/path` can be "
        "run by its name. The first one is the default.",
    )
    object_lifetime: Seconds | None = Field(
        default=timedelta(days=7),
        ge=timedelta(minutes=1),
        description="How long fal keeps the files that it makes, and large media inputs, these for "
        "a day at least. Fleek stores its own copies.",
    )
    callback_wait: Seconds = Field(
        default=timedelta(hours=2),
        description="How long a callback may take, in addition to `ATTEMPT_TIMEOUT`. A job whose "
        "submission was not confirmed is found by its callback alone, and fails when that is overdue; "
        "fal repeats callbacks for two hours.",
    )
    creates_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of requests submitted per minute, by each account. Default: "
        "unlimited.",
    )
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of concurrent requests, waiting ones included, of each "
        "account. Default: unlimited.",
    )
    max_output_bytes: int = Field(
        default=2 * 1024**3, ge=1024, description="Maximum size of an output file in bytes."
    )

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.key is None:
            raise ValueError(
                "FAL_KEY: must be set to the account's key, from https://fal.ai/dashboard/keys"
            )
        return self


def callback_base(public_url: str | None, queue_url: str) -> str | None:
    """Return the beginning of callback URLs, or None if callbacks are not requested."""
    if public_url is None:
        return None
    near = AllowedHost.of(queue_url).host in LOOPBACK
    if not near and not public_url.startswith("https://"):
        return None
    return f"{public_url.rstrip('/')}/webhooks/fal"


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting is wrong, or there is no key.
    """
    settings = read(FalSettings)
    async with open_accounts(keys_of(settings.key), partial(_open_account, settings)) as provider:
        if provider.config.callback_base is None:
            log.warning(
                "fal_polled",
                reason="PUBLIC_URL is not set, or not https: no callbacks",
                advice="set it, so that a request whose response is lost can be found",
            )
        yield provider


@asynccontextmanager
async def _open_account(settings: FalSettings, key: str) -> AsyncGenerator[FalProvider]:
    tls = tls_context()
    config = AccountConfig(
        models=settings.models,
        callback_base=callback_base(read(Settings).public_url, settings.queue_url),
        object_lifetime=settings.object_lifetime,
        callback_wait=settings.callback_wait,
        creates_per_minute=settings.creates_per_minute,
        max_concurrency=settings.max_concurrency,
        limits=Limits(size=settings.max_output_bytes, setting="FAL_MAX_OUTPUT_BYTES"),
    )
    headers = authorization(key, "Key")
    policy = Policy(named=(AllowedHost.of(settings.queue_url),))
    async with AsyncExitStack() as stack:
        api = open_api(settings.queue_url, headers=headers, tls=tls)
        stack.push_async_callback(api.close)
        keys = open_api(settings.jwks_url, tls=tls)
        stack.push_async_callback(keys.close)
        files = Client(policy, Connections(policy, tls=tls))
        stack.push_async_callback(files.close)
        rest = open_api(settings.rest_url, headers=headers, tls=tls)
        stack.push_async_callback(rest.close)
        cdn = open_api(settings.cdn_url, tls=tls, whole=UPLOAD_SECONDS)
        stack.push_async_callback(cdn.close)
        storage = FileStorage(rest, cdn, settings.object_lifetime)
        yield FalProvider(api, keys, files, storage, config)
