"""Celery's consumer, which accepts Fleek's messages and drops all others."""

import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

from celery.worker.consumer.consumer import Consumer as CeleryConsumer
from kombu import Message
from kombu.asynchronous import Hub

from fleek.dispatch.bridge import job_ids_of
from fleek.dispatch.celery.application import NAMES

JSON: Final = "application/json"
REFUSED_SECONDS: Final = 1.0  # wait before reconnecting to a broker that refuses

logger = logging.getLogger(__name__)


class Consumer(CeleryConsumer):
    """Validates messages before Celery does: some could crash the worker or run code."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Wait before reconnecting, as a broker that refuses still accepts connections."""
        super().on_connection_error_after_connected(exc)
        time.sleep(REFUSED_SECONDS)

    def register_with_event_loop(self, hub: Hub) -> None:
        """Let a slot that becomes free wake the loop, which then fetches the next message."""
        super().register_with_event_loop(hub)
        self.app.bridge.on_room = partial(hub.call_soon, _look_again)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return the handler of messages."""
        handle = super().create_task_handler(*args, **kwargs)

        def receive(message: Message) -> None:
            """Hand a valid message to its task, and drop any other one: it would end the worker."""
            fault = fault_of(message, names=NAMES.values())
            if fault is None:
                self.app.bridge.expect(len(message.decode()[0]))
                handle(message)
            else:
                self.app.bridge.record_dropped(fault, message.body)
                message.ack_log_error(logger, self.connection_errors)

        return receive


def _look_again() -> None:
    """Do nothing: the loop looks for messages in each of its turns."""


def fault_of(message: Message, *, names: Collection[str]) -> str | None:
    """Return why a message is not valid; None if it is."""
    headers = message.headers
    if not isinstance(headers, dict) or not isinstance(headers.get("task"), str):
        return "wrong_shape"
    if headers["task"] not in names:
        return "unknown_task"
    if message.content_type != JSON:
        return "not_json"
    try:
        payload = message.decode()
    except Exception:  # noqa: BLE001 - any error of the decoder
        return "not_json"
    return None if _is_ours(headers, payload) else "wrong_shape"


def _is_ours(headers: dict[str, Any], payload: object) -> bool:
    match payload:
        case [job_ids, dict(words), dict(embedded)] if job_ids_of(job_ids) is not None:
            plain = not words and not any(embedded.values())
            timely = all(headers.get(name) is None for name in ("eta", "expires"))
            return plain and timely and isinstance(headers.get("id"), str)
    return False
