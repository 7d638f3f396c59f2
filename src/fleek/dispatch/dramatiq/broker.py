"""The Dramatiq broker on Redis, for sending and receiving ids.

Source: https://dramatiq.io/guide.html and the library's own Lua script for Redis, which names its
keys.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast
from uuid import UUID

import redis
import structlog
from dramatiq import Actor, Message, Middleware
from dramatiq.brokers.redis import RedisBroker
from pydantic import Field
from pydantic_settings import BaseSettings
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleek.dispatch.address import RedisAddress, with_password
from fleek.dispatch.base import Reported, Task, UnknownJob
from fleek.dispatch.bridge import TASKS, Bridge, Closed, job_ids_of
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import JobId
from fleek.environment import SOURCE, Secret

NAMESPACE: Final = "fleek"
HEARTBEAT_MS: Final = 60_000  # without a heartbeat for so long, messages return to their queue
WORK_SECONDS: Final = 3.0  # for a response to a worker
WAIT_SECONDS: Final = 1  # at Redis for a message; a worker that stops waits as long at most
AWAY_SECONDS: Final = 1.0  # between two attempts while Redis is unreachable
MAINTENANCE: Final = 50_000  # of a million commands, how many check the heartbeats
FIELDS: Final = frozenset(
    {"queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"}
)

log = structlog.get_logger(__name__)


class DramatiqSettings(BaseSettings):
    """Settings of Dramatiq's Redis server."""

    model_config = SOURCE

    redis_url: RedisAddress = Field(
        default="redis://localhost:6379/0",
        description="The Redis server for job ids if `DISPATCH` is `celery` or `dramatiq`.",
    )
    redis_password: Secret = None  # described in the settings of Celery


class FleekBroker(RedisBroker):
    """A broker with one queue per task. Invalid messages never reach a worker.

    `patience`: maximum time for a response from Redis, in seconds.
    """

    def __init__(
        self,
        settings: DramatiqSettings,
        bridge: Bridge,
        *,
        middleware: Sequence[Middleware] = (),
        patience: float = WORK_SECONDS,
    ) -> None:
        try:
            client = redis.Redis.from_url(
                with_password(settings.redis_url, settings.redis_password),
                socket_keepalive=True,
                socket_connect_timeout=patience,
                socket_timeout=patience,
                # Only repeated on a connection that Redis closed meanwhile.
                retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
            )
        except ValueError as error:
            raise ConfigurationError(f"REDIS_URL: {error}") from None
        super().__init__(
            client=client,
            middleware=list(middleware),
            namespace=NAMESPACE,
            heartbeat_timeout=HEARTBEAT_MS,
            maintenance_chance=MAINTENANCE,
        )
        self.bridge = bridge
        bridge.send_back = self.send
        self._away: set[str] = set()  # queues that cannot be read now
        self._watches = True  # whether Redis lets an idle worker wait for a message
        for task in TASKS:
            self._receive(task)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, without the queue for delayed messages, which is unused but polled."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def do_fetch(self, queue_name: str, _number: int) -> list[bytes]:
        """Fetch a valid message and drop invalid ones, if there are free slots.

        One at a time, as each has several ids; the next follows at once if there is still room. Waits
        for a message, see `WAIT_SECONDS`. Empty while Redis is unreachable or refuses.
        """
        if not self.bridge.has_room():
            return []
        try:
            fetched: list[bytes | None] = self._dispatch("fetch")(queue_name, 1)
            if not fetched and self._awaits_message(queue_name) and self.bridge.has_room():
                fetched = self._dispatch("fetch")(queue_name, 1)
            good = self._ours(queue_name, fetched)
        except redis.RedisError as error:
            if queue_name not in self._away:
                self._away.add(queue_name)
                log.warning("broker_unreachable", queue=queue_name, reason=str(error))
            time.sleep(AWAY_SECONDS)
            return []
        if queue_name in self._away:
            self._away.discard(queue_name)
            log.info("broker_reconnected", queue=queue_name)
        return good

    def _awaits_message(self, queue_name: str) -> bool:
        """Wait at Redis until the queue has a message; False if it has none for `WAIT_SECONDS`.

        The first message is moved to where it is, which is how a list is watched without removing
        anything. A Redis before 6.2, or one whose rules refuse the command, is asked again and again
        instead, by the library.

        Raises:
            redis.RedisError: Redis is unreachable.
        """
        if not self._watches:
            return False
        queue = f"{NAMESPACE}:{queue_name}"
        try:
            return self.client.blmove(queue, queue, WAIT_SECONDS, "LEFT", "LEFT") is not None
        except redis.ResponseError as error:
            self._watches = False
            log.info("broker_polled", reason=str(error))
            return False

    def do_ack(self, queue_name: str, *ids: str) -> None:
        """Acknowledge messages."""
        self._send_outcome("ack", queue_name, *ids)

    def do_nack(self, queue_name: str, *ids: str) -> None:
        """Reject messages."""
        self._send_outcome("nack", queue_name, *ids)

    def do_requeue(self, queue_name: str, *ids: str) -> None:
        """Return messages to their queue."""
        self._send_outcome("requeue", queue_name, *ids)

    def _send_outcome(self, command: str, queue_name: str, *ids: str) -> None:
        """Send an acknowledgement, rejection or return of messages, if Redis is reachable.

        Dramatiq would repeat it without an end, and could not be stopped meanwhile. Unacknowledged
        messages are delivered again after the end of this process, and the job's row decides.
        """
        try:
            self._dispatch(command)(queue_name, *ids)
        except redis.RedisError as error:
            log.info("broker_ack_failed", what=command, queue=queue_name, reason=str(error))

    def _ours(self, queue_name: str, fetched: Sequence[bytes | None]) -> list[bytes]:
        good = []
        for data in fetched:
            fault = fault_of(data, queue_name)
            if fault is None and data is not None:
                self.bridge.expect(len(json.loads(data)["args"]))
                good.append(data)
            else:
                self.bridge.record_dropped(fault or "wrong_shape", data)
                self._forget(queue_name, data)
        return good

    def send(self, task: Task, job_ids: Sequence[JobId]) -> None:
        """Publish up to `MOST_IDS` ids in one message; blocks until Redis has it.

        Raises:
            redis.RedisError: Redis refuses it or is unreachable.
        """
        args = tuple(map(str, job_ids))
        self.enqueue(Message(queue_name=task, actor_name=task, args=args, kwargs={}, options={}))

    def probe(self) -> None:
        """Check a write.

        Raises:
            redis.RedisError: Redis refuses it or is unreachable.
        """
        self.client.set(f"{NAMESPACE}:probe", "", px=1000)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def _receive(self, task: Task) -> None:
        """Register a task for workers."""

        def receive(*values: str) -> None:
            """Handle ids, validated by `do_fetch`, in one of Dramatiq's threads."""
            job_ids = [JobId(UUID(value)) for value in values]
            try:
                self.bridge.receive(task, *job_ids)
            except Closed:
                with suppress(redis.RedisError):  # `admit` dispatches them again
                    for job_id in job_ids:  # another worker should get them, of any release
                        self.send(task, [job_id])
            except (Reported, UnknownJob):
                pass  # already logged; Dramatiq would keep the message for a week

        Actor(receive, broker=self, actor_name=task, queue_name=task, priority=0, options={})

    def _forget(self, queue_name: str, data: bytes | None) -> None:
        """Remove a fetched message; its id is only known to Redis."""
        unacked = f"{NAMESPACE}:__acks__.{self.broker_id}.{queue_name}"
        ids = cast("list[bytes]", list(self.client.smembers(unacked)))
        if not ids:
            return
        for message_id, message in zip(
            ids, self.client.hmget(f"{NAMESPACE}:{queue_name}.msgs", ids), strict=True
        ):
            if message == data:
                self._dispatch("ack")(queue_name, message_id)


def fault_of(data: bytes | None, queue_name: str) -> str | None:
    """Return why a message is not valid; None if it is."""
    try:
        message = json.loads(data or b"")
    except (ValueError, RecursionError):
        return "not_json"
    if not isinstance(message, dict) or set(message) != FIELDS:
        return "wrong_shape"
    if message["actor_name"] not in TASKS:
        return "unknown_task"
    match message:
        case {
            "queue_name": str(queue),
            "actor_name": str(actor),
            "args": job_ids,
            "kwargs": dict(words),
            "options": {"redis_message_id": str(), **others},
            "message_id": str(),
            "message_timestamp": int(),
        }:
            named = job_ids_of(job_ids) is not None and queue == actor == queue_name
            return None if named and not words and not others else "wrong_shape"
    return "wrong_shape"
