"""Settings of the Cog server, and the address of its callbacks."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleek.environment import SOURCE, ZERO, Seconds, Secret, cleaned
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.settings import LOOPBACK

UPLOADS: Final = "COG_UPLOAD_URL"


class CogSettings(BaseSettings):
    """Read from ``COG_*``."""

    model_config = SOURCE | SettingsConfigDict(env_prefix="COG_")

    url: str = Field(
        description="Address of the Cog server. If it is set and `PROVIDERS` is not, the provider "
        "`cog` is opened in addition to the default one.",
    )
    model: str = Field(
        default="cog/model",
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}/[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$",
        description="The name of the server's model in Fleek, as `owner/name`.",
    )
    upload_url: str | None = Field(
        default=None,
        description="The server's `--upload-url`, if it has one: outputs are fetched from "
        "its host even if it is private.",
    )
    max_output_bytes: int = Field(
        default=2 * 1024**3,
        ge=1024,
        description="Maximum size of an output file in bytes.",
    )
    token: Secret = Field(
        default=None, description="Bearer token sent to the server, for a proxy in front of it."
    )
    webhook_token: Secret = Field(
        default=None,
        description="The server's `WEBHOOK_AUTH_TOKEN`: callbacks without it are refused.",
    )
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of concurrent predictions: the value of the server's setting "
        "of this name. Default: as many as the server accepts.",
    )
    callback_seconds: Seconds = Field(
        default=timedelta(seconds=120),
        ge=ZERO,
        le=timedelta(hours=1),
        description="How long to wait for the result of a prediction that no longer runs. "
        "The server waits up to 103 seconds before it sends a callback again.",
    )

    @field_validator("url", "upload_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = cleaned(value)
        try:
            parts = urlsplit(value)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
            usable = usable and not (parts.query or parts.fragment or parts.username)
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be an address such as http://127.0.0.1:5000")
        return value.rstrip("/")

    @property
    def policy(self) -> Policy:
        """The hosts of outputs: public ones, and that of uploads even if it is private."""
        if self.upload_url is None:
            return Policy(setting=UPLOADS)
        return Policy(named=(AllowedHost.of(self.upload_url),), setting=UPLOADS)


def callback_base(public_url: str | None, cog_url: str) -> str | None:
    """Return the base of callback URLs, or None if callbacks are impossible or unsafe.

    The callback URL is a secret, so it is only sent unencrypted on this machine.
    """
    if public_url is None:
        return None
    if public_url.startswith("https://") or loopback(cog_url):
        return public_url.rstrip("/")
    return None


def loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK
