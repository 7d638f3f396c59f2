"""Celery's worker in a thread of another process, without signal handlers or log redirection."""

import os
from typing import Any

from celery.app import trace
from celery.worker import WorkController, state

from fleek.dispatch.celery.application import FleekCelery, quieten


class Worker(WorkController):
    """Only one per process at a time, as much of Celery's state is global."""

    def __init__(self, app: FleekCelery, *, concurrency: int) -> None:
        state.should_stop = None
        super().__init__(
            app=app,
            hostname=f"fleek-{os.getpid()}@%h",
            pool_cls="threads",
            concurrency=concurrency,
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )

    def on_before_init(self, **_options: Any) -> None:
        """Register its tasks for the threads of the pool, as Celery's command does."""
        quieten()
        trace.setup_worker_optimizations(self.app, self.hostname)

    def end(self) -> None:
        """Request a stop, from any thread; `start` returns after that."""
        state.should_stop = 0
