"""Replicate's HTTP API as a provider: settings and `connect`. The adapter is in `provider.py`.

Source: https://replicate.com/docs/reference/http
"""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

import structlog
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings

from fleek.environment import SOURCE, Listed, Pasted, Secrets, Tokens, cleaned, read
from fleek.outbound.addresses import AllowedHost, Policy, proxy_address
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections, tls_context
from fleek.providers.accounts import keys_of, open_accounts
from fleek.providers.base import Provider
from fleek.providers.download import Limits
from fleek.providers.http import authorization, open_api
from fleek.providers.replicate.callback import read_secret
from fleek.providers.replicate.provider import AccountConfig, ReplicateProvider
from fleek.settings import LOOPBACK, is_real_token

PATTERN: Final = re.compile(r"(\*\.)?[a-z0-9.-]+(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?")

log = structlog.get_logger(__name__)


def _base(value: str) -> str:
    value = cleaned(value)
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise ValueError("must be an address such as https://api.replicate.com/v1")
    base = value.rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


def _no_example(value: object) -> object:
    return None if isinstance(value, str) and not is_real_token(value) else value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    hosts = tuple(host.lower() for host in value)
    if not all(PATTERN.fullmatch(host) for host in hosts):
        raise ValueError("must be hosts such as *.replicate.delivery or 127.0.0.1:9010")
    return hosts


class ReplicateSettings(BaseSettings):
    """The account at Replicate, under the names that Replicate's own client uses."""

    model_config = SOURCE

    replicate_api_token: Annotated[Tokens, BeforeValidator(_no_example)] = Field(
        default=None,
        validate_default=True,
        description="The account's token, from https://replicate.com/account/api-tokens. Several "
        "accounts share the work: their tokens are separated by commas.",
    )
    replicate_base_url: Annotated[str, AfterValidator(_base)] = Field(
        default="https://api.replicate.com/v1",
        description="The API's address, with or without `/v1`; another one for an emulator.",
    )
    replicate_proxy: Annotated[Pasted, AfterValidator(proxy_address)] | None = Field(
        default=None,
        description="A proxy for calls to the API, such as "
        "`http://user:password@proxy:3128`. Outputs are fetched directly; "
        "`HTTPS_PROXY` and `ALL_PROXY` are not used.",
    )
    replicate_output_hosts: Annotated[Listed, AfterValidator(_hosts)] = Field(
        default=("*.replicate.delivery",),
        description="Hosts from which outputs are fetched, besides that of `REPLICATE_BASE_URL`: "
        "`example.com`, `*.example.com` for it and its subdomains, or `host:port`.",
    )
    replicate_creates_per_minute: int = Field(
        default=600,
        ge=1,
        le=100_000,
        description="Maximum number of predictions created per minute, by each account.",
    )
    replicate_calls_per_minute: int = Field(
        default=3000,
        ge=1,
        le=1_000_000,
        description="Maximum number of other calls per minute, by each account.",
    )
    replicate_webhook_secret: Secrets = Field(
        default=None,
        description="The signing secret of callbacks, `whsec_…`; several are separated by spaces. "
        "Default: read from Replicate.",
    )
    max_output_bytes: int = Field(
        default=2 * 1024**3, ge=1024, description="Maximum size of an output file in bytes."
    )
    public_url: str | None = Field(
        default=None,
        description="The service's public address; callbacks are requested if it is set and https.",
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        token = self.replicate_api_token
        if not all(map(is_real_token, keys_of(token) or [""])):
            raise ValueError(
                "REPLICATE_API_TOKEN: must be set to the account's token, "
                "from https://replicate.com/account/api-tokens"
            )
        try:
            _ = self.keys
        except ValueError as error:
            raise ValueError(f"REPLICATE_WEBHOOK_SECRET: {error}") from None
        return self

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The configured keys for the signatures of callbacks."""
        secret = self.replicate_webhook_secret
        return () if secret is None else tuple(map(read_secret, secret.get_secret_value().split()))

    @property
    def policy(self) -> Policy:
        """The hosts from which outputs may be fetched."""
        base = AllowedHost.of(self.replicate_base_url)
        named = [base]
        patterns = []
        for entry in self.replicate_output_hosts:
            if entry.startswith("*."):
                patterns.append(entry)
                continue
            plain = base.plain and AllowedHost.of(f"https://{entry}").host == base.host
            named.append(AllowedHost.of(f"http{'' if plain else 's'}://{entry}"))
        return Policy(
            patterns=tuple(patterns), named=tuple(named), setting="REPLICATE_OUTPUT_HOSTS"
        )

    @property
    def callback_base(self) -> str | None:
        """The beginning of callback URLs, or None if callbacks are not requested."""
        if self.public_url is None:
            return None
        near = AllowedHost.of(self.replicate_base_url).host in LOOPBACK
        if not near and not self.public_url.startswith("https://"):
            return None
        return f"{self.public_url.rstrip('/')}/webhooks/replicate"


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting is wrong, or there is no token.
    """
    async with open_provider(read(ReplicateSettings)) as provider:
        yield provider


@asynccontextmanager
async def open_provider(settings: ReplicateSettings) -> AsyncGenerator[ReplicateProvider]:
    """Open the provider with the given settings, with each of its accounts."""
    tokens = keys_of(settings.replicate_api_token)
    async with open_accounts(tokens, partial(_open_account, settings)) as provider:
        if provider.config.callback_base is None:
            log.info(
                "replicate_polled", reason="PUBLIC_URL is not set, or not https: no callbacks"
            )
        yield provider


@asynccontextmanager
async def _open_account(
    settings: ReplicateSettings, token: str
) -> AsyncGenerator[ReplicateProvider]:
    config = AccountConfig(
        callback_base=settings.callback_base,
        keys=settings.keys,
        limits=Limits(size=settings.max_output_bytes),
        creates_per_minute=settings.replicate_creates_per_minute,
        calls_per_minute=settings.replicate_calls_per_minute,
    )
    tls = tls_context()
    headers = authorization(token)
    proxy = settings.replicate_proxy
    api = open_api(settings.replicate_base_url, headers=headers, tls=tls, proxy=proxy)
    policy = settings.policy
    files = Client(policy, Connections(policy, tls=tls))
    provider = ReplicateProvider(api, files, config)
    try:
        yield provider
    finally:
        await provider.schemas.close()
        await files.close()
        await provider.close()
        await api.close()
