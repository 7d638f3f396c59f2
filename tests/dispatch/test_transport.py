"""Celery's Redis stops while tasks are running, in every order in which Celery may notice."""

from collections.abc import Callable, Generator
from contextlib import closing

import pytest
from kombu import Connection, Message, Queue

from fleek.dispatch.celery.transport import Transport
from redisserver import RedisServer

Acknowledge = Callable[[Message], None]


@pytest.fixture
def connection(own_redis: RedisServer) -> Generator[Connection]:
    """Yield a connection as Celery's worker opens it."""
    with closing(Connection(own_redis.url(), transport=Transport)) as opened:
        yield opened


def receive_unacknowledged(connection: Connection) -> Message:
    """Send a message, and receive it without acknowledging it."""
    queue = Queue("work")(connection.default_channel)
    queue.declare()
    connection.Producer().publish("x", routing_key="work")
    message = queue.get()
    assert message is not None
    return message


@pytest.mark.parametrize(
    "acknowledge",
    [
        pytest.param(Message.ack, id="done"),
        pytest.param(Message.reject, id="dropped"),
        pytest.param(Message.requeue, id="given-back"),
    ],
)
def test_a_task_that_ends_after_its_connection_raises_nothing(
    connection: Connection, own_redis: RedisServer, acknowledge: Acknowledge
) -> None:
    """Celery acknowledges in its event loop, where an error would end the worker."""
    message = receive_unacknowledged(connection)
    own_redis.stop()
    connection.collect()

    acknowledge(message)

    assert message.acknowledged


def test_a_connection_that_breaks_while_listening_is_closed(
    connection: Connection, own_redis: RedisServer
) -> None:
    """Celery closes it twice: the first call fails, and the second finds it half closed."""
    receive_unacknowledged(connection)
    work, control = connection.default_channel, connection.channel()
    for channel in (work, control):
        channel.basic_consume("work", no_ack=False, callback=print, consumer_tag=str(channel))
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)  # from now on they are listening
    own_redis.stop()
    connection.collect()

    connection.close()

    assert work.closed
