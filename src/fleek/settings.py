"""What the operator chooses: read once from the environment and ``.env``, then passed down.

An adapter's own settings live in the adapter's module and are read the same way, with
`fleek.environment.read`.
"""

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from fleek.domain.api_keys import NAME as KEY_NAME
from fleek.domain.api_keys import digest
from fleek.domain.job import MODEL_NAME, Backoff
from fleek.domain.media import Part
from fleek.domain.tenant import TenantLimits
from fleek.environment import (
    SOURCE,
    ZERO,
    Listed,
    Pasted,
    Seconds,
    Secret,
    Secrets,
    cleaned,
    lookup,
)
from fleek.registry import CONFIGURED_BY

MASTER_KEY_BYTES: Final = 32
SECRET_LENGTH: Final = 32  # characters of a key or a token, at least
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_STAND_IN: Final = re.compile(
    r"mock_token_for_demo|(r8_)?[x*._-]*|<.*>|.*(your|paste|insert|replace)[ _-].*|.*token_here.*"
    r"|change[ _-]?me|todo|none|null|token",
    re.IGNORECASE,
)

BASE: Final = re.compile(
    r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?(/[^\s?#]*)?", re.IGNORECASE
)
NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.IGNORECASE)


def is_real_token(token: str) -> bool:
    """Whether this may be an account's token, and not the example that stands in its place."""
    return _STAND_IN.fullmatch(cleaned(token)) is None


def is_network(text: str) -> bool:
    """Whether this is an IP address, or a network of them."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _words(value: SecretStr | None) -> list[str]:
    return [] if value is None else value.get_secret_value().split()


def _keys(value: SecretStr | None) -> tuple[bytes, ...]:
    """Return the keys that a setting holds; one that is no Base64 is empty."""
    return tuple(_bytes(text) for text in _words(value))


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _renamed(name: str, *, old: str) -> AliasChoices:
    """Return the alias of a setting whose old name is accepted for one release, with a warning."""
    return AliasChoices(name, old)


class ProviderChoice(BaseSettings):
    """What decides which providers are opened if `PROVIDERS` is not set."""

    model_config = SOURCE

    mock_replicate: bool | None = Field(
        default=None,
        description="`true`: the placeholder stands in for Replicate, whatever token is set. "
        "`false`: Replicate is opened, and a token is required. Default: Replicate if a real token "
        "is set.",
    )
    provider: str | None = None  # the former name of `PROVIDERS`; `cog` is opened beside it

    def decide(self) -> Mapping[str, str]:
        """Return the providers to be opened, the default one first, each with the reason."""
        given = lookup(*CONFIGURED_BY.values())
        configured: dict[str, str] = {}
        for name, setting in CONFIGURED_BY.items():
            is_configured, reason = self._state(name, setting, given.get(setting))
            if is_configured:
                configured[name] = reason
            elif name == "replicate":  # for which the placeholder stands in
                configured["placeholder"] = reason
        if self.provider is None:
            return configured
        return {self.provider: f"PROVIDER={self.provider}"} | {
            name: reason
            for name, reason in configured.items()
            if name == "cog" and name != self.provider
        }

    def _state(self, name: str, setting: str, value: str | None) -> tuple[bool, str]:
        """Return whether a provider is configured, and why."""
        if name == "replicate" and self.mock_replicate is not None:
            return not self.mock_replicate, f"MOCK_REPLICATE={str(self.mock_replicate).lower()}"
        if value is None:
            return False, f"{setting} is not set"
        if not is_real_token(value):
            return False, f"{setting} holds an example, not a token"
        return True, f"{setting} is set"


class Proxies(BaseSettings):
    """Proxies that other programs would use: known to the doctor, and not used."""

    model_config = SOURCE

    https_proxy: str | None = None
    all_proxy: str | None = None

    def ignored(self) -> str | None:
        """Return the name of a setting that has no effect, or None."""
        named = {"HTTPS_PROXY": self.https_proxy, "ALL_PROXY": self.all_proxy}
        return next((name for name, value in named.items() if value), None)


class Settings(BaseSettings):
    """The service's settings. Each field's description is its documentation."""

    model_config = SOURCE

    database_url: Pasted = Field(
        default="sqlite+aiosqlite:///./fleek.db",
        description="Where jobs are kept. `sqlite+aiosqlite:///./fleek.db`, or PostgreSQL as "
        "`postgres://`, `postgresql://` or `postgresql+asyncpg://`.",
    )
    dispatch: str = Field(
        default="embedded",
        description="What carries job ids to workers: `embedded` in one process, `celery` or "
        "`dramatiq` to many.",
    )
    worker_concurrency: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="How many jobs one worker starts or collects at once.",
    )
    worker_process: bool = Field(
        default=False,
        description="Whether the worker of `fleek serve` is a process of its own beside the API, which is "
        "started again if it ends: then it does not slow down requests. With PostgreSQL, or SQLite "
        "3.51.3 or newer, and `DISPATCH=embedded`.",
    )
    heartbeat_seconds: Seconds = Field(
        default=timedelta(seconds=5),
        gt=ZERO,
        le=timedelta(seconds=60),
        description="How often a worker says that it is alive; after six silent ones it is dead.",
    )

    providers: Listed = Field(
        default_factory=lambda: tuple(ProviderChoice().decide()),
        description="The providers to open, comma-separated: `placeholder`, `replicate`, `cog`, "
        "`openai`, `fal`, `comfyui`, `local`, or the name of a plugin. The first one serves requests "
        "that name none. Default: `replicate` if a real token is set, else `placeholder`; and `cog` if `COG_URL` "
        "is set, `openai` if `OPENAI_API_KEY` is, `fal` if `FAL_KEY` is, and `comfyui` if "
        "`COMFYUI_WORKFLOWS` is. The former name, `PROVIDER`, takes one name and is accepted until the "
        "next release.",
    )
    default_model: str | None = Field(
        default=None,
        description="The model of requests that name neither a model nor a provider. Default: the "
        "first provider's own.",
    )
    models_file: Path | None = Field(
        default=None,
        description="A file in TOML with models under names of your own, and where each can be run: "
        "they are added to the built-in catalogue, or take the place of those with the same name.",
    )
    model_aliases: Listed = Field(
        default=(),
        description="Further names of models, as `ALIAS=NAME`, comma-separated: of the catalogue, or "
        "of a provider, such as `hero=black-forest-labs/flux-1.1-pro` or "
        "`poster=openai:gpt-image-1`. They come before the built-in names.",
    )

    failover_after_seconds: Seconds = Field(
        default=timedelta(seconds=30),
        ge=ZERO,
        description="How long a job waits for a provider that is at its limit, before it goes on at its "
        "next route, if it has one. For a provider that does not take jobs at all, none waits.",
    )
    max_retry_attempts: int = Field(
        default=3, ge=0, le=19, description="Attempts after the first, for failures that may pass."
    )
    retry_backoff_base: Seconds = Field(
        default=timedelta(seconds=1),
        gt=ZERO,
        description="Ceiling of the wait before the second attempt.",
    )
    retry_backoff_factor: float = Field(
        default=2.0, ge=1, le=100, description="How much the ceiling grows with each attempt."
    )
    retry_backoff_max: Seconds = Field(
        default=timedelta(seconds=60), gt=ZERO, description="The highest ceiling."
    )
    max_worker_crashes: int = Field(
        default=5,
        ge=1,
        le=1000,
        validation_alias=_renamed("max_worker_crashes", old="max_crashes"),
        description="Worker crashes while starting one job after which it is not started again.",
    )
    reconcile_seconds: Seconds = Field(
        default=timedelta(seconds=90),
        gt=ZERO,
        validation_alias=_renamed("reconcile_seconds", old="adopt_seconds"),
        description="How long to search the provider's list for a prediction whose creation was "
        "not confirmed, before the job is started again.",
    )
    attempt_timeout: Seconds = Field(
        default=timedelta(hours=1), gt=ZERO, description="Longest one prediction may run."
    )
    job_deadline: Seconds = Field(
        default=timedelta(days=1),
        gt=ZERO,
        le=timedelta(days=365),
        description="Longest one job may take.",
    )

    media_retention_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="How long a completed job's files are kept, in days; default: for ever.",
    )
    metadata_retention_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="How long its metadata document is kept, in days; default: for ever.",
    )
    job_retention_days: float | None = Field(
        default=None,
        ge=0.05,  # whoever still hears of a job that has ended has forgotten it by then
        le=36_500,
        description="How long an ended job is kept at all, in days: then its row, history and "
        "files go; default: for ever.",
    )

    rate_per_minute: int = Field(
        default=600,
        ge=0,
        le=1_000_000,
        description="Most requests per minute of one key, or of one address without a key; ten "
        "seconds' worth may come at once. Beyond it, requests are refused with 429. 0: no limit.",
    )
    max_live_jobs: int | None = Field(
        default=None,
        ge=1,
        description="Most jobs of one tenant that have not ended; beyond it, new ones are refused "
        "with 429. Default: no limit.",
    )
    max_running: int | None = Field(
        default=None,
        ge=1,
        description="Most jobs of one tenant that run at a time; further ones wait for their turn. "
        "Default: no limit.",
    )
    max_uploaded_bytes: int | None = Field(
        default=None,
        ge=1024,
        description="Most bytes of one tenant's uploads that are kept at a time; beyond it, new ones "
        "are refused with 429. Default: no limit.",
    )
    prices_file: Path | None = Field(
        default=None,
        description="A file with prices, in the form of the list that the package has "
        "(`fleek/prices.toml`); its lines come first. Default: the list of the package alone.",
    )
    price_unknown: Literal["accept", "refuse"] = Field(
        default="accept",
        description="`refuse`: jobs whose price is unknown are refused with 422. `accept`: they "
        "start, and count in no budget unless the provider says what they cost.",
    )
    idempotency_hours: float = Field(
        default=24,
        gt=0,
        le=8760,
        description="How long an `Idempotency-Key` is kept, in hours; a job is not removed before "
        "its key.",
    )
    dedupe_window_seconds: Seconds = Field(
        default=ZERO,
        ge=ZERO,
        le=timedelta(days=1),
        description="For callers that repeat requests without an `Idempotency-Key`: a request that "
        "equals one of the last so many seconds returns its job. Default: 0, as equal requests may "
        "be meant. A retry that a client announces by `x-stainless-retry-count` is looked for in "
        "the last 120 seconds in any case.",
    )

    max_batch_bytes: int = Field(
        default=64 * 1_048_576,
        ge=1024,
        description="Largest body of `POST /api/v1/batches`, in bytes.",
    )
    max_upload_bytes: int = Field(
        default=64 * 1_048_576,
        ge=1024,
        description="Largest file that can be uploaded, in bytes.",
    )
    upload_retention_hours: float = Field(
        default=24,
        gt=0,
        le=876_000,
        description="How long an uploaded file is kept, in hours; longer while a job that has not "
        "ended refers to it.",
    )

    webhook_retention_days: float = Field(
        default=30,
        gt=0,
        le=36_500,
        description="How long a webhook that was delivered or given up is kept, in days: until "
        "then it can be read and replayed.",
    )
    webhook_allow_http: bool = Field(
        default=False,
        description="Allow webhooks by http, to receivers in `SSRF_ALLOW_CIDRS` only.",
    )
    ssrf_allow_cidrs: Listed = Field(
        default=(),
        description="Private networks that webhooks may be sent to and media inputs may be fetched "
        "from, such as `10.0.0.0/8`, comma-separated: hosts there may have any port and a name without a dot. Addresses "
        "of metadata services stay refused.",
    )
    moderation_url: str | None = Field(
        default=None,
        description="Address of a moderation service that is asked before each start, with the prompt, "
        "the parameters and the hashes of inputs, and about outputs. What it flags fails with "
        "`moderation_flagged`.",
    )
    moderation_token: Secret = Field(
        default=None, description="Bearer token sent to the moderation service."
    )
    moderation_fails: Literal["open", "closed"] = Field(
        default="closed",
        description="What happens while the moderation service does not answer: `closed`: jobs wait; "
        "`open`: they go on.",
    )
    moderation_outputs: bool = Field(
        default=True,
        description="Whether the moderation service is asked about outputs, too. Those that it flags "
        "are withheld; a job fails if all of them are.",
    )
    moderation_seconds: Seconds = Field(
        default=timedelta(seconds=10),
        gt=ZERO,
        le=timedelta(minutes=2),
        description="How long an answer of the moderation service may take.",
    )
    c2pa_certificates: Path | None = Field(
        default=None,
        description="A file in PEM with the chain of certificates that outputs are signed with (C2PA), that of "
        "`C2PA_PRIVATE_KEY` first; needs the extra `fleek[c2pa]`. Default: outputs are stored as they are received.",
    )
    c2pa_private_key: Path | None = Field(
        default=None,
        description="A file in PEM with the private key that outputs are signed with, without a password.",
    )
    c2pa_fails: Literal["open", "closed"] = Field(
        default="open",
        description="What happens to an output that cannot be signed: `open`: it is stored unsigned, with a warning; "
        "`closed`: its job waits with the paid result.",
    )
    c2pa_seconds: Seconds = Field(
        default=timedelta(seconds=60),
        gt=ZERO,
        le=timedelta(minutes=30),
        description="How long signing one output may take.",
    )
    master_key: Secrets = Field(
        default=None,
        description="Encrypts the signing secrets of webhooks in the database: 32 random bytes in "
        "Base64, as `openssl rand -base64 32` prints them. To change it, put the new key before "
        "the old one, separated by a comma. Default: they are stored as they are.",
    )

    storage_backend: str = Field(
        default="local", description="Where files are kept: `local`, `s3`."
    )
    storage_base_url: str | None = Field(
        default=None,
        description="Address that files are served under; default `PUBLIC_URL` + `/media`.",
    )

    max_job_bytes: int = Field(
        default=4 * 1024**3,
        ge=1024,
        description="Largest size of all output files of one job together.",
    )
    make_thumbnails: bool = Field(
        default=True,
        description="Make thumbnails of a job's files as soon as it has completed, with low priority and one "
        "at a time in each worker. `false`: only when they are first asked for.",
    )
    min_free_bytes: int = Field(
        default=16 * 1024**2,
        ge=0,
        description="Room that outputs leave on the disk that they are written to, in bytes: "
        "below it no job is accepted, and results wait.",
    )

    api_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    api_port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    api_debug: bool = Field(default=False, description="More in the log. Never more in answers.")
    api_keys: Secrets = Field(
        default=None,
        description="Keys with all scopes, as `name:secret`, comma-separated; a secret has at least "
        "32 characters. Further keys are created by `fleek keys create`. As soon as there is a key, "
        "callers need one.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Listen on an address that is not loopback although there are no keys: everyone "
        "who reaches it may use it.",
    )
    metrics_token: Secret = Field(
        default=None,
        description="A token that reads `/metrics`, `/info` and `/health/detailed`, shown as a key is, "
        "for monitors. At least 32 characters.",
    )
    worker_metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of `API_HOST` on which `fleek worker` serves its metrics at `/metrics`, to "
        "callers on the machine itself and to those with `METRICS_TOKEN`; one for each process. "
        "Default: none.",
    )
    public_url: str | None = Field(
        default=None,
        description="The service's address as callers see it, with the path that a proxy strips: "
        "`https://example.com/fleek`. Every address that is given out begins with it; default "
        "`http://API_HOST:API_PORT`.",
    )
    allowed_hosts: Listed = Field(
        default=(),
        description="Further names and addresses under which callers reach the service, such as "
        "`api.example.com` or `*.example.com`, comma-separated. Loopback, the address of the "
        "socket itself and the hosts of `PUBLIC_URL` and `STORAGE_BASE_URL` are known anyway; "
        "requests for others are refused.",
    )
    forwarded_allow_ips: Listed = Field(
        default=("127.0.0.1", "::1"),
        description="Proxies in front of the service: addresses and networks, comma-separated, or "
        "`*`. As they speak for many callers, `MAX_CONNECTIONS_PER_PEER` does not count for them; "
        "the log names the caller that their `X-Forwarded-For` names.",
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Most connections at a time; beyond it, the longest idle one is closed. "
        "Default: what half of the file descriptors and an eighth of the memory bear, at most "
        "10000.",
    )
    max_connections_per_peer: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Most connections from one address; default: a quarter of `MAX_CONNECTIONS`.",
    )
    max_streams: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Most open event streams of one process.",
    )
    max_held_body_bytes: int = Field(
        default=64 * 1_048_576,
        ge=65_536,
        description="Most bytes of request bodies that are held at a time, all callers together; "
        "beyond it, larger requests are answered 503.",
    )
    request_header_seconds: Seconds = Field(
        default=timedelta(seconds=10),
        gt=ZERO,
        description="Longest until the head of a request has arrived.",
    )
    request_body_seconds: Seconds = Field(
        default=timedelta(seconds=60),
        gt=ZERO,
        description="Longest until its body has arrived, and a second more for each 256 KiB that have "
        "come. It is given up sooner if nearly nothing "
        "comes for a sixth of this time.",
    )
    response_stall_seconds: Seconds = Field(
        default=timedelta(seconds=30),
        gt=ZERO,
        description="How long a caller may read nearly nothing of a response.",
    )
    keep_alive_seconds: Seconds = Field(
        default=timedelta(seconds=30),
        gt=ZERO,
        description="How long a connection is kept open without a request.",
    )
    cors_origins: Listed = Field(
        default=(),
        description="Web origins that may call the API from a browser, comma-separated.",
    )
    max_body_bytes: int = Field(
        default=262_144, ge=1024, le=64 * 1_048_576, description="Largest request body."
    )
    max_write_wait_seconds: Seconds = Field(
        default=timedelta(seconds=0.6),
        gt=ZERO,
        description="How long a request waits, from its arrival, until it is written before it is refused with "
        "503. On PostgreSQL, `lock_timeout` in `DATABASE_URL` bounds the wait for a lock.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="What is logged: `DEBUG`, `INFO`, `WARNING`, `ERROR`."
    )
    log_format: Literal["console", "json"] | None = Field(
        default=None, description="`console` or `json`; default: console on a terminal, else json."
    )

    log_prompts: bool = Field(
        default=False, description="Whether prompts are logged as jobs are submitted."
    )

    otel_exporter_otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="An OpenTelemetry collector to which traces are sent, such as "
        "`http://localhost:4318`; needs `fleek[otel]`. The exporter's other variables "
        "(`OTEL_EXPORTER_OTLP_HEADERS`, …) are read from the environment.",
    )
    otel_service_name: str = Field(default="fleek", description="The service's name in traces.")

    fleek_failpoints: str = Field(
        default="",
        description="For tests of Fleek itself: named places at which the process kills itself, "
        "fails or freezes, such as `start.sent=kill`.",
    )

    fleek_clock_file: Path | None = Field(
        default=None,
        description="For tests of Fleek itself: a file with seconds that this process adds to its "
        "wall clock, read again whenever it looks at it.",
    )

    @field_validator("providers")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name a provider, such as placeholder")
        return tuple(dict.fromkeys(value))

    @field_validator("model_aliases")
    @classmethod
    def _are_aliases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            alias, equals, name = (part.strip() for part in entry.partition("="))
            if not equals or not name or MODEL_NAME.fullmatch(alias) is None:
                raise ValueError("must be entries such as hero=black-forest-labs/flux-1.1-pro")
        return value

    @field_validator("moderation_url")
    @classmethod
    def _is_service(cls, value: str | None) -> str | None:
        parts = None if value is None else urlsplit(value)
        if parts is not None and not (parts.scheme in {"http", "https"} and parts.hostname):
            raise ValueError("must be an address such as https://moderation.example.com/check")
        return value

    @field_validator("public_url", "storage_base_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and BASE.fullmatch(value) is None:
            raise ValueError("must be an address such as https://media.example.com/fleek")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(NAME.fullmatch(one) or is_network(one.strip("[]")) for one in value):
            raise ValueError(
                "must be names such as api.example.com or *.example.com, or addresses, without "
                "scheme and port"
            )
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(one == "*" or is_network(one) for one in value):
            raise ValueError("must be addresses or networks such as 10.0.0.0/8, or *")
        return value

    @field_validator("ssrf_allow_cidrs")
    @classmethod
    def _are_private_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_network(one) for one in value):
            raise ValueError("must be networks such as 10.0.0.0/8")
        return value

    @field_validator("master_key")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if any(len(key) != MASTER_KEY_BYTES for key in _keys(value)):
            raise ValueError("must be 32 bytes in Base64, as openssl rand -base64 32 prints them")
        return value

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        pairs = [pair.partition(":") for pair in _words(value)]
        names = [name for name, _, _ in pairs]
        if not all(KEY_NAME.fullmatch(name) for name in names) or len({*names}) < len(names):
            raise ValueError("must be name:secret, comma-separated, each name once")
        if any(len(secret) < SECRET_LENGTH for *_, secret in pairs):
            raise ValueError(
                f"each secret must have at least {SECRET_LENGTH} characters, as those of "
                "openssl rand -hex 32"
            )
        return value

    @field_validator("metrics_token")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < SECRET_LENGTH:
            raise ValueError(f"must have at least {SECRET_LENGTH} characters")
        return value

    @model_validator(mode="after")
    def _webhooks(self) -> Self:
        if self.webhook_allow_http and not self.ssrf_allow_cidrs:
            raise ValueError(
                "WEBHOOK_ALLOW_HTTP is only for receivers in SSRF_ALLOW_CIDRS, which is not set"
            )
        return self

    @model_validator(mode="after")
    def _key_and_certificates(self) -> Self:
        if (self.c2pa_certificates is None) != (self.c2pa_private_key is None):
            raise ValueError("C2PA_CERTIFICATES and C2PA_PRIVATE_KEY must be set together")
        return self

    @model_validator(mode="after")
    def _one_replicate(self) -> Self:
        if "replicate" in self.providers and ProviderChoice().mock_replicate:
            raise ValueError("replicate in PROVIDERS and MOCK_REPLICATE=true exclude each other")
        return self

    @property
    def public_base(self) -> str:
        """The service's address as callers see it, without a slash at its end."""
        return (self.public_url or self.local_base).rstrip("/")

    @property
    def local_base(self) -> str:
        """An address under which this machine can open the service."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.api_host, self.api_host)  # noqa: S104 - not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.api_port}"

    @property
    def media_base(self) -> str:
        """The address that files are served under, without a slash at its end."""
        return (self.storage_base_url or f"{self.public_base}/media").rstrip("/")

    @property
    def provider(self) -> str:
        """The provider of requests that name none."""
        return self.providers[0]

    @property
    def provider_reason(self) -> str:
        """Why it is the default one."""
        named = f"PROVIDERS={','.join(self.providers)}"
        if "providers" in self.model_fields_set:
            return named
        return ProviderChoice().decide().get(self.provider, named)

    @property
    def job_retention(self) -> timedelta | None:
        """How long an ended job is kept; None: for ever."""
        return None if self.job_retention_days is None else timedelta(days=self.job_retention_days)

    @property
    def tenant_limits(self) -> TenantLimits:
        """What tenants without limits of their own may have."""
        return TenantLimits(
            max_live_jobs=self.max_live_jobs,
            max_running=self.max_running,
            max_uploaded_bytes=self.max_uploaded_bytes,
            rate_per_minute=self.rate_per_minute,
        )

    @property
    def configured_keys(self) -> Mapping[str, bytes]:
        """The digests of the keys in `API_KEYS`, by their names."""
        pairs = (pair.partition(":") for pair in _words(self.api_keys))
        return {name: digest(secret) for name, _, secret in pairs}

    @property
    def master_keys(self) -> tuple[bytes, ...]:
        """The keys that encrypt secrets in the database, the current one first."""
        return _keys(self.master_key)

    @property
    def idempotency(self) -> timedelta:
        """How long an idempotency key is kept."""
        return timedelta(hours=self.idempotency_hours)

    @property
    def upload_retention(self) -> timedelta:
        """How long an uploaded file is kept."""
        return timedelta(hours=self.upload_retention_hours)

    def retention(self, part: Part) -> timedelta | None:
        """How long this part of a completed job is kept; None: for ever."""
        days = {
            Part.MEDIA: self.media_retention_days,
            Part.METADATA: self.metadata_retention_days,
        }[part]
        return None if days is None else timedelta(days=days)

    @property
    def backoff(self) -> Backoff:
        """How long to wait between attempts."""
        return Backoff(self.retry_backoff_base, self.retry_backoff_factor, self.retry_backoff_max)


RENAMED: Final[Mapping[str, str]] = {
    "PROVIDER": "PROVIDERS",  # which `ProviderChoice` reads, since `cog` is opened beside it
    **{
        str(old).upper(): name.upper()
        for name, field in Settings.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
        for old in field.validation_alias.choices[1:]
    },
}
"""The new name of each renamed setting, by its old name."""


def renamed_in_use() -> Mapping[str, str]:
    """Return the renamed settings that are still set under their old name, with the new one."""
    return {old: RENAMED[old] for old in lookup(*RENAMED)}
