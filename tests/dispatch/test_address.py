"""Addresses of brokers, which hold passwords and are often mistyped."""

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
def test_an_address_that_the_libraries_take_is_taken(address: str) -> None:
    """The examination must not refuse what works."""
    broker = FleekBroker(read(DramatiqSettings, redis_url=address), Bridge())
    app = make_app(read(CelerySettings, redis_url=address), Bridge())

    assert broker.client.connection_pool.connection_kwargs["host"]
    assert app.connection_for_write().hostname
    broker.close()
    app.close()


@pytest.mark.parametrize("kind", [CelerySettings, DramatiqSettings])
@pytest.mark.parametrize("address", BAD)
def test_a_wrong_address_is_one_line_without_the_password(
    address: str, kind: type[CelerySettings | DramatiqSettings]
) -> None:
    """The libraries' own errors are of many kinds, come late, and may quote a piece of it."""
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
def test_a_broker_that_celery_does_not_know_is_told_in_a_line(address: str, line: str) -> None:
    """A mistake of the operator's is no traceback."""
    with pytest.raises(ConfigurationError, match=line) as refused:
        make_app(read(CelerySettings, celery_broker_url=address), Bridge())

    assert "secret" not in str(refused.value)
