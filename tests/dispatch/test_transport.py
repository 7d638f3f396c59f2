"""Celery's Redis goes away while tasks are under way, in every order in which Celery may notice."""

from collections.abc import Callable, Generator
from contextlib import closing

import pytest
from kombu import Connection, Message, Queue

from fleek.dispatch.celery.transport import Transport
from redisserver import RedisServer

Tell = Callable[[Message], None]


@pytest.fixture
def connection(own_redis: RedisServer) -> Generator[Connection]:
    """Give a connection as Celery's worker opens it."""
    with closing(Connection(own_redis.url(), transport=Transport)) as opened:
        yield opened


def taken(connection: Connection) -> Message:
    """Send a message, and take it without saying that it has been dealt with."""
    queue = Queue("work")(connection.default_channel)
    queue.declare()
    connection.Producer().publish("x", routing_key="work")
    message = queue.get()
    assert message is not None
    return message


@pytest.mark.parametrize(
    "tell",
    [
        pytest.param(Message.ack, id="done"),
        pytest.param(Message.reject, id="dropped"),
        pytest.param(Message.requeue, id="given-back"),
    ],
)
def test_a_task_that_ends_after_its_connection_hurts_nobody(
    connection: Connection, own_redis: RedisServer, tell: Tell
) -> None:
    """Celery's loop says so in its own turn, where an error would end the worker."""
    message = taken(connection)
    own_redis.stop()
    connection.collect()

    tell(message)

    assert message.acknowledged


def test_a_connection_that_breaks_while_it_listens_is_closed_all_the_same(
    connection: Connection, own_redis: RedisServer
) -> None:
    """Celery closes it twice; the first time breaks off, and the second finds half of it gone."""
    taken(connection)
    work, control = connection.default_channel, connection.channel()
    for channel in (work, control):
        channel.basic_consume("work", no_ack=False, callback=print, consumer_tag=str(channel))
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)  # from now on they listen
    own_redis.stop()
    connection.collect()

    connection.close()

    assert work.closed
