"""The Celery application: sending, receiving, and all settings that differ from the defaults.

Source: https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from celery import Celery
from celery.exceptions import Reject
from kombu import Exchange, Queue
from pydantic import Field
from pydantic_settings import BaseSettings

from fleek.dispatch.address import BrokerAddress, RedisAddress, with_password
from fleek.dispatch.base import Reported, Task, UnknownJob
from fleek.dispatch.bridge import ANSWER_SECONDS, TASKS, Bridge, Closed
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import JobId
from fleek.environment import SOURCE, Secret

NAMES: Final = {task: f"fleek.{task}" for task in TASKS}
"""The name of each task and its queue, as shown in Flower."""

QUEUES: Final = [Queue(name, Exchange(name), routing_key=name) for name in NAMES.values()]

GUARDED: Final = {
    "redis": "fleek.dispatch.celery.transport:Transport",
    "rediss": "fleek.dispatch.celery.transport:Transport",
    "sentinel": "fleek.dispatch.celery.transport:SentinelTransport",
}
"""Transports that would crash on a message that is not JSON."""

WORK_SECONDS: Final = 5.0  # for a response to a worker, except while it waits for messages


class CelerySettings(BaseSettings):
    """Settings of Celery's broker."""

    model_config = SOURCE

    redis_url: RedisAddress = Field(
        default="redis://localhost:6379/0",
        description="The Redis server for job ids if `DISPATCH` is `celery` or `dramatiq`.",
    )
    redis_password: Secret = Field(
        default=None,
        description="The password of that Redis server, if `REDIS_URL` does not contain it.",
    )
    celery_broker_url: BrokerAddress | None = Field(
        default=None,
        description="The broker if `DISPATCH=celery`, in any form that Celery supports; "
        "default `REDIS_URL`.",
    )

    @property
    def broker(self) -> str:
        """The broker's address."""
        return self.celery_broker_url or with_password(self.redis_url, self.redis_password)


class FleekCelery(Celery):
    """An application whose tasks use `bridge`."""

    bridge: Bridge


class DropRecorder:
    """Records dropped messages; unlike a method, Celery can show it in its configuration."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, reason: str, message: object) -> None:
        """Count and log the message."""
        self._bridge.record_dropped(reason, message)

    def __json__(self) -> str:
        """Return its representation in `celery inspect conf` and Flower."""
        return "counted"


class RoomReader:
    """Whether a worker should fetch another message; likewise."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self) -> bool:
        """Return whether the worker has a free slot."""
        return self._bridge.has_room()

    def __json__(self) -> str:
        """Return its representation in `celery inspect conf` and Flower."""
        return "by slots"


def holds_back(app: FleekCelery) -> bool:
    """Whether workers fetch a message only if they have a free slot; else a message has one id.

    Other brokers push messages to workers, and count messages, not ids.
    """
    return app.conf.broker_transport is not None


def make_app(
    settings: CelerySettings, bridge: Bridge, *, patience: float = WORK_SECONDS
) -> FleekCelery:
    """Return a new application, not connected yet.

    `patience`: maximum time for a response from Redis, in seconds.

    Raises:
        ConfigurationError: The kind of broker is unknown, or its library is not installed.
    """
    app = FleekCelery("fleek", set_as_current=False)
    app.bridge = bridge
    app.conf.update(_conf(settings.broker))
    app.conf.broker_transport_options = {
        "on_drop": DropRecorder(bridge),
        "has_room": RoomReader(bridge),
        "visibility_timeout": 1200,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "max_connections": 256,
        "max_retries": 0,  # of a connection within one call; the caller repeats the call
        "priority_steps": [0],
        "socket_connect_timeout": ANSWER_SECONDS,
        "socket_timeout": patience,
    }
    _load_transport(app)
    if holds_back(app):
        bridge.send_back = partial(send, app)
    for task in TASKS:
        app.task(_receiver(bridge, task), name=NAMES[task], shared=False, throws=(Reported,))
    return app


def send(app: FleekCelery, task: Task, job_ids: Sequence[JobId]) -> None:
    """Publish up to `MOST_IDS` ids in one message; blocks until the broker has it.

    Raises:
        Exception: Any error of the broker's library.
    """
    app.send_task(NAMES[task], args=list(map(str, job_ids)), queue=NAMES[task], ignore_result=True)


def declare(app: FleekCelery) -> None:
    """Declare a queue on a connection of the senders; blocks.

    Raises:
        Exception: Any error of the broker's library.
    """
    with app.pool.acquire(block=True, timeout=ANSWER_SECONDS) as connection:
        QUEUES[0](connection.default_channel).declare()


def quieten() -> None:
    """Suppress Celery's log messages about single ids, unless the level is DEBUG."""
    logging.getLogger("celery.app.trace").addFilter(_without_traceback)
    for name in ("celery.worker.strategy", "celery.app.trace"):
        if not logging.getLogger().isEnabledFor(logging.DEBUG):
            logging.getLogger(name).setLevel(logging.WARNING)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Log a rejected message in one line, without a traceback."""
    if record.levelno <= logging.WARNING:
        record.exc_info = record.exc_text = None
    return True


def _receiver(bridge: Bridge, task: Task) -> Callable[..., None]:
    def receive(*job_ids: str) -> None:
        """Handle ids, validated by the consumer, in a thread of Celery's pool."""
        try:
            bridge.receive(task, *(JobId(UUID(job_id)) for job_id in job_ids))
        except Closed as error:
            raise Reject(error, requeue=True) from None  # another worker should get it
        except UnknownJob as error:
            raise Reject(error, requeue=False) from None

    return receive


def _load_transport(app: FleekCelery) -> None:
    """Import the library for this kind of broker, which takes seconds, before the first call."""
    try:
        app.connection_for_write().get_transport_cls()
    except (KeyError, ImportError) as error:
        raise ConfigurationError(f"CELERY_BROKER_URL: {error.args[0]}") from None


def _conf(broker: str) -> dict[str, Any]:
    return {
        "broker_url": broker,
        "broker_transport": GUARDED.get(broker.partition("://")[0]),
        "broker_connection_timeout": ANSWER_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,  # a refusal must not end the worker
        "result_backend": None,
        "task_ignore_result": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_acks_late": True,
        "task_publish_retry": False,
        "task_queues": QUEUES,
        "task_default_queue": NAMES["start"],
        "task_create_missing_queues": False,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_consumer": "fleek.dispatch.celery.consumer:Consumer",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,  # three messages per task; Flower switches them on
    }
