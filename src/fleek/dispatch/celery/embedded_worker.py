"""Celery's worker in a thread of somebody else's process: it hears no signals, and hijacks nothing."""

import os
from typing import Any

from celery.app import trace
from celery.worker import WorkController, state

from fleek.dispatch.celery.application import FleekCelery, quieten


class Worker(WorkController):
    """One per process at a time: much of Celery's state is the process's."""

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
        """Make its tasks known to the threads of the pool, as Celery's command does."""
        quieten()
        trace.setup_worker_optimizations(self.app, self.hostname)

    def end(self) -> None:
        """Stop soon; from any thread. `start` returns when that has happened."""
        state.should_stop = 0
