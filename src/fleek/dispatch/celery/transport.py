"""Celery's Redis, made to survive what is no message, and its own end while a task is under way.

By itself either ends the worker.
"""

import base64
from collections.abc import Callable
from typing import Any, Final

from kombu.transport import redis, virtual
from redis import RedisError

REFUSED: Final = (*redis.Transport.connection_errors, RedisError)
"""After these the connection is made anew. The library does so only when it is cut: a Redis that
answers and refuses (a replica after a failover, one that is full or still loads) ends its worker."""


class QoS(redis.QoS):
    """The messages that a channel has delivered and that are not acknowledged.

    Without the channel's connection nothing can be acknowledged: the message is delivered again
    by the next connection or dispatched again by `admit`, and the job's row decides.
    """

    def ack(self, delivery_tag: str) -> None:
        """Say that a message has been dealt with."""
        if self._cut_off():
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - as kombu calls it
        """Give a message back, or have it forgotten."""
        if self._cut_off():
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().reject(delivery_tag, requeue=requeue)

    def restore_unacked(self, client: Any = None) -> None:
        """Give back all that has not been dealt with."""
        if self._cut_off():
            self._delivered.clear()
        else:
            super().restore_unacked(client)

    def _cut_off(self) -> bool:
        transport = self.channel.connection
        return transport is None or transport.client is None


class _Channel:
    """Drops what is not JSON. It has left the queue already when it is read."""

    connection: Any

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # of kombu's channel
        except (ValueError, RecursionError) as error:  # no text, no JSON, or far too deep
            self.connection.on_drop("not_json", error)
            return True


class _Transport:
    """Drops what is JSON and no envelope; takes a refusal for a lost connection."""

    client: Any
    connection_errors = REFUSED

    def on_drop(self, reason: str, message: object) -> None:
        """Pass a bad message on to whoever counts them."""
        drop: Callable[[str, object], None] | None = self.client.transport_options.get("on_drop")
        if drop is not None:
            drop(reason, message)

    def _deliver(self, message: object, queue: str) -> None:
        if is_envelope(message):
            super()._deliver(message, queue)  # type: ignore[misc]  # of kombu's transport
        else:
            self.on_drop("wrong_shape", message)


def is_envelope(message: object) -> bool:
    """Whether kombu can make a message of this without an error."""
    match message:
        case {
            "headers": dict(),
            "body": str(body),
            "properties": {
                "delivery_tag": str(),
                "delivery_info": {"exchange": str(), "routing_key": str()},
                **properties,
            },
        }:
            return _is_body(body, properties.get("body_encoding"))
    return False


def _is_body(body: str, encoding: object) -> bool:
    if encoding is None:
        return True
    try:
        base64.b64decode(body.encode())
    except ValueError:
        return False
    return encoding == "base64"


class Channel(_Channel, redis.Channel):
    """Redis."""

    QoS = QoS


class Transport(_Transport, redis.Transport):
    """Redis."""

    Channel = Channel


class SentinelChannel(_Channel, redis.SentinelChannel):
    """Redis behind Sentinel."""

    QoS = QoS


class SentinelTransport(_Transport, redis.SentinelTransport):
    """Redis behind Sentinel."""

    Channel = SentinelChannel
