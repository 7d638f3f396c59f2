"""Settings of the bucket: its address, its keys, and how its files are served."""

import re
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from fleek.environment import SOURCE, ZERO, Pasted, PublicKey, Seconds, Secret, cleaned
from fleek.outbound.addresses import proxy_address

BUCKET: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}"
ACCOUNT: Final = r"[0-9A-Za-z]{8,64}"


def _address(value: str) -> str:
    value = cleaned(value)
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and have a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must not contain a user, password, query or fragment")
    return value.rstrip("/")


def _bucket(value: str) -> str:
    if not re.fullmatch(BUCKET, value):
        raise ValueError("must be the name of a bucket, and nothing else")
    return value


def _account(value: str) -> str:
    if not re.fullmatch(ACCOUNT, value):
        raise ValueError("must be the id of an account: letters and digits")
    return value


def _spellings(*names: str) -> AliasChoices:
    return AliasChoices(*names)


Address = Annotated[str, AfterValidator(_address)]
"""A web address without a trailing slash."""


class S3Settings(BaseSettings):
    """Settings of the bucket. ``S3_*`` takes precedence over ``R2_*``, and that over ``AWS_*``."""

    model_config = SOURCE

    s3_bucket: Annotated[str, AfterValidator(_bucket)] = Field(
        validation_alias=_spellings(
            "S3_BUCKET", "R2_BUCKET", "R2_BUCKET_NAME", "AWS_S3_BUCKET", "AWS_BUCKET_NAME"
        ),
        description="The bucket, which must exist.",
    )
    s3_endpoint_url: Address | None = Field(
        default=None,
        validation_alias=_spellings(
            "S3_ENDPOINT_URL", "R2_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"
        ),
        description="Address of the S3 API. Default: Cloudflare's if `R2_ACCOUNT_ID` is set, else "
        "Amazon's.",
    )
    s3_region: str | None = Field(
        default=None,
        validation_alias=_spellings("S3_REGION", "R2_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="The bucket's region. Default: `auto` if `R2_ACCOUNT_ID` is set, else "
        "`us-east-1`.",
    )
    s3_access_key_id: PublicKey = Field(
        default=None,
        validation_alias=_spellings("S3_ACCESS_KEY_ID", "R2_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        description="The access key. Without it, the role of the machine or container is used.",
    )
    s3_secret_access_key: Secret = Field(
        default=None,
        validation_alias=_spellings(
            "S3_SECRET_ACCESS_KEY", "R2_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"
        ),
        description="The secret access key.",
    )
    s3_session_token: Secret = Field(
        default=None,
        description="The session token of a temporary access key; for `AWS_ACCESS_KEY_ID`, also "
        "`AWS_SESSION_TOKEN`.",
    )
    aws_access_key_id: PublicKey = Field(default=None, description="See `S3_ACCESS_KEY_ID`.")
    aws_session_token: Secret = Field(default=None, description="See `S3_SESSION_TOKEN`.")
    r2_account_id: Annotated[str, AfterValidator(_account)] | None = Field(
        default=None,
        description="Cloudflare account; determines the endpoint and the region of R2.",
    )
    s3_public_url: Address | None = Field(
        default=None,
        description="Public address of the bucket, such as that of a CDN. Files are then served from "
        "there, without signatures.",
    )
    s3_url_expiry: Seconds = Field(
        default=timedelta(hours=1),
        ge=timedelta(seconds=1),
        le=timedelta(days=7),
        description="Lifetime of the signed address of a file.",
    )
    media_proxy: bool = Field(
        default=False,
        description="Serve files through Fleek instead of redirecting callers to the bucket.",
    )
    s3_proxy: Annotated[Pasted, AfterValidator(proxy_address)] | None = Field(
        default=None,
        description="A proxy for requests to the bucket, such as `http://proxy:3128`.",
    )
    s3_timeout: Seconds = Field(
        default=timedelta(seconds=20),
        gt=ZERO,
        le=timedelta(hours=1),
        description="Maximum wait for a response, for each part of 5 MiB.",
    )
    s3_spool_path: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / "fleek-spool",
        description="Folder for files before their upload. Default: `fleek-spool` in the "
        "system's folder for temporary files.",
    )

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY: set both or neither")
        return self

    @property
    def session_token(self) -> SecretStr | None:
        """The session token of the access key, never that of another key."""
        if self.s3_session_token is None and self.s3_access_key_id == self.aws_access_key_id:
            return self.aws_session_token
        return self.s3_session_token

    @property
    def endpoint(self) -> str | None:
        """The address of the S3 API; None: Amazon's."""
        if self.s3_endpoint_url is None and self.r2_account_id is not None:
            return f"https://{self.r2_account_id}.r2.cloudflarestorage.com"
        return self.s3_endpoint_url

    @property
    def region(self) -> str:
        """The region for the signatures of requests."""
        return self.s3_region or ("auto" if self.r2_account_id else "us-east-1")
