"""Where the Cog server is, and how its answers reach us."""

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
        "`cog` is opened beside the default one.",
    )
    model: str = Field(
        default="cog/model",
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}/[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$",
        description="What the server's one model is called here, as `owner/name`.",
    )
    upload_url: str | None = Field(
        default=None,
        description="The server's own `--upload-url`, if it has one: outputs are fetched from "
        "its host even if that is private.",
    )
    max_output_bytes: int = Field(
        default=2 * 1024**3,
        ge=1024,
        description="Largest output file that is fetched.",
    )
    token: Secret = Field(
        default=None, description="Sent to the server as a bearer token, for a proxy before it."
    )
    webhook_token: Secret = Field(
        default=None,
        description="The server's own `WEBHOOK_AUTH_TOKEN`: callbacks without it are refused.",
    )
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="How many predictions the server runs at once, by its own setting of this "
        "name: no more are started. Default: as many as it takes.",
    )
    callback_seconds: Seconds = Field(
        default=timedelta(seconds=120),
        ge=ZERO,
        le=timedelta(hours=1),
        description="How long the answer of a prediction that runs no more is waited for. "
        "The server's own pauses between two tries are up to 103 seconds.",
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
        """Where outputs may be fetched from: public hosts, and that of uploads even if private."""
        if self.upload_url is None:
            return Policy(setting=UPLOADS)
        return Policy(named=(AllowedHost.of(self.upload_url),), setting=UPLOADS)


def callback_base(public_url: str | None, cog_url: str) -> str | None:
    """Return the address that callbacks go to, or None if they cannot, or must not, be sent.

    The callback URL is a secret, so it is not sent in the clear except on this machine.
    """
    if public_url is None:
        return None
    if public_url.startswith("https://") or loopback(cog_url):
        return public_url.rstrip("/")
    return None


def loopback(url: str) -> bool:
    """Whether this address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK
