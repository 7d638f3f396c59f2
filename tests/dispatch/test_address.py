"""Addresses of brokers, which have passwords and are often mistyped."""

import pytest

from fleek.dispatch.bridge import Bridge
from fleek.dispatch.celery.application import CelerySettings, make_app
from fleek.dispatch.dramatiq.broker import DramatiqSettings, FleekBroker
from fleek.domain.errors import ConfigurationError
from fleek.environment import read

GOOD = [
    "redis://localhost",
    "redis://:p%2Fw@host:6379/0?ssl_cert_reqs=none",
    "rediss://user:pw@[::1]:6380/15",
]
BAD = [
    "nonsense",
    "redis://:secret/x@host:6379/0",
    "redis://host:99999",
    "redis://host/x",
    "http://x",
]


@pytest.mark.parametrize("address", GOOD)
def test_a_valid_address_is_accepted(address: str) -> None:
    """The check must not refuse what the libraries accept."""
    broker = FleekBroker(read(DramatiqSettings, redis_url=address), Bridge())
    app = make_app(read(CelerySettings, redis_url=address), Bridge())

    assert broker.client.connection_pool.connection_kwargs["host"]
    assert app.connection_for_write().hostname
    broker.close()
    app.close()


@pytest.mark.parametrize("kind", [CelerySettings, DramatiqSettings])
@pytest.mark.parametrize("address", BAD)
def test_an_invalid_address_is_a_one_line_error_without_the_password(
    address: str, kind: type[CelerySettings | DramatiqSettings]
) -> None:
    """The libraries' own errors vary, come late, and may quote parts of it."""
    with pytest.raises(ConfigurationError, match=r"REDIS_URL: must be like redis://") as refused:
        read(kind, redis_url=address)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("pigeon://host", "CELERY_BROKER_URL: No such transport: pigeon"),
        ("host:5672", "CELERY_BROKER_URL: must be like amqp://"),
        ("amqp://me:secret/x@host", "CELERY_BROKER_URL: must be like amqp://"),
    ],
)
def test_an_unsupported_broker_is_a_one_line_error(address: str, line: str) -> None:
    """A configuration error has no traceback."""
    with pytest.raises(ConfigurationError, match=line) as refused:
        make_app(read(CelerySettings, celery_broker_url=address), Bridge())

    assert "secret" not in str(refused.value)
