"""Celery's Redis transport, hardened against invalid messages and lost connections.

Without this, either would end the worker.
"""

import base64
from collections.abc import Callable
from typing import Any, Final

from kombu.transport import redis, virtual
from redis import RedisError

REFUSED: Final = (*redis.Transport.connection_errors, RedisError)
"""Errors after which to reconnect. The library reconnects only after a lost connection: a Redis
server that refuses (a replica after a failover, full or loading) would end its worker."""


class QoS(redis.QoS):
    """The delivered messages of a channel that are not acknowledged.

    Without a connection, an acknowledgement is impossible: the message is delivered again by the
    next connection, or `admit` dispatches the id again, and the job's row decides.
    """

    def can_consume(self) -> bool:
        """Whether to ask for another message, or to read one that was asked for.

        A worker without a free slot asks for none: another one may have a slot.
        """
        can: bool = super().can_consume()
        if not can or self._cut_off():
            return can
        options = self.channel.connection.client.transport_options
        has_room: Callable[[], bool] | None = options.get("has_room")
        asked = bool(self.channel._in_poll)  # noqa: SLF001 - kombu has no other word for it
        return asked or has_room is None or has_room()

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message."""
        if self._cut_off():
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - as kombu calls it
        """Return a message to its queue, or drop it."""
        if self._cut_off():
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().reject(delivery_tag, requeue=requeue)

    def restore_unacked(self, client: Any = None) -> None:
        """Return all messages that are not acknowledged."""
        if self._cut_off():
            self._delivered.clear()
        else:
            super().restore_unacked(client)

    def _cut_off(self) -> bool:
        transport = self.channel.connection
        return transport is None or transport.client is None


class _Channel:
    """Drops messages that are not JSON; they are already off the queue when they are read."""

    connection: Any

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # of kombu's channel
        except (ValueError, RecursionError) as error:  # not text, not JSON, or nested too deeply
            self.connection.on_drop("not_json", error)
            return True


class _Transport:
    """Drops JSON that is not an envelope; treats a refusal as a lost connection."""

    client: Any
    connection_errors = REFUSED

    def on_drop(self, reason: str, message: object) -> None:
        """Report an invalid message."""
        drop: Callable[[str, object], None] | None = self.client.transport_options.get("on_drop")
        if drop is not None:
            drop(reason, message)

    def _deliver(self, message: object, queue: str) -> None:
        if is_envelope(message):
            super()._deliver(message, queue)  # type: ignore[misc]  # of kombu's transport
        else:
            self.on_drop("wrong_shape", message)


def is_envelope(message: object) -> bool:
    """Whether kombu can parse a message without an error."""
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
