"""The library's handle of a bucket, made from our settings."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from obstore.store import S3Store

from fleek.storage.s3.settings import S3Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential  # not there at run time

CONNECT_SECONDS: Final = 5
DIRECT: "Final[ClientConfig]" = {  # else the library would use what the environment names
    "proxy_url": "http://127.0.0.1:9",
    "proxy_excludes": "*,0.0.0.0/0,::/0",  # every host: by name, by IPv4, by IPv6
}


def open_store(settings: S3Settings) -> S3Store:
    """Return the bucket that the settings name; asks nobody whether it is there."""
    endpoint, seconds = settings.endpoint, settings.s3_timeout
    return S3Store(
        settings.s3_bucket,
        config={} if endpoint is None else {"endpoint": endpoint},
        region=settings.region,
        # Amazon wants the bucket in the host's name, where a dot would not fit its certificate.
        virtual_hosted_style_request=endpoint is None and "." not in settings.s3_bucket,
        skip_signature=False,
        disable_bulk_delete=True,  # not every S3 has it
        credential_provider=_static(settings),
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "connect_timeout": min(timedelta(seconds=CONNECT_SECONDS), seconds),
            "read_timeout": seconds,
            "timeout": timedelta(days=1),  # of a whole file, which a slow reader may take
            **(DIRECT if settings.s3_proxy is None else {"proxy_url": settings.s3_proxy}),
        },
        retry_config={"max_retries": 3, "retry_timeout": seconds / 2},  # the engine tries again
    )


def _static(settings: S3Settings) -> "Callable[[], S3Credential] | None":
    """Return what gives the keys of the settings, and not what else the environment holds.

    None: the library looks for a role of this machine or container.
    """
    secret, token = settings.s3_secret_access_key, settings.session_token
    if settings.s3_access_key_id is None or secret is None:
        return None
    keys: S3Credential = {
        "access_key_id": settings.s3_access_key_id,
        "secret_access_key": secret.get_secret_value(),
        "token": None if token is None else token.get_secret_value(),
        "expires_at": None,
    }
    return lambda: keys
