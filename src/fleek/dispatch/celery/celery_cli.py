"""Celery's worker command, with a Fleek worker in its process."""

import logging
import os
import sys
from typing import Any, Final, NoReturn

from celery import bootsteps, signals
from celery.bin.celery import celery
from celery.concurrency.thread import TaskPool
from celery.worker import WorkController, state

from fleek.dispatch.attached_worker import AttachedWorker, warn_if_few
from fleek.dispatch.bridge import Bridge
from fleek.dispatch.celery.application import CelerySettings, FleekCelery, make_app, quieten
from fleek.domain.errors import FleekError
from fleek.environment import read
from fleek.settings import Settings
from fleek.telemetry import configure_logging

COMMAND: Final = "celery -A fleek.dispatch.celery worker --pool threads -c 64"
WRONG: Final = 2  # exit code: a wrong option or setting


class Attach(bootsteps.StartStopStep):
    """A step of the worker's start: after its threads, before it receives messages."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: WorkController, **_options: Any) -> None:
        if worker.pool_cls is not TaskPool:
            pool = worker.pool_cls.__module__.rpartition(".")[2]
            _refuse(f"the pool {pool!r} cannot run its tasks; start it with: {COMMAND}")
        self._worker = AttachedWorker(
            worker.app.bridge, dispatch="celery", concurrency=worker.concurrency
        )

    def start(self, worker: WorkController) -> None:
        """Open the Fleek worker, waiting for the database schema without a limit."""
        warn_if_few(worker.concurrency, better="--concurrency 64")
        try:
            self._worker.start(given_up=lambda: state.should_stop is not None)
        except FleekError as error:
            _refuse(str(error))

    def stop(self, _worker: WorkController) -> None:
        """Drain the worker; Celery no longer receives messages."""
        self._worker.stop()

    def terminate(self, worker: WorkController) -> None:
        """Drain the worker, too: its time is limited, and calls that cost money must finish."""
        self.stop(worker)


def make_native() -> FleekCelery:
    """Return the application of Celery's own commands: worker, flower, inspect."""
    try:
        settings = read(Settings)
        app = make_app(read(CelerySettings), Bridge())
    except FleekError as error:
        _refuse(str(error))
    app.conf.worker_concurrency = settings.worker_concurrency
    app.steps["worker"].add(Attach)

    def log_as_we_do(**_options: Any) -> None:
        configure_logging(level=settings.log_level, style=settings.log_format)
        logging.captureWarnings(capture=True)
        quieten()

    signals.celeryd_init.connect(log_as_we_do, weak=False)
    signals.setup_logging.connect(
        log_as_we_do, weak=False
    )  # a connected receiver disables Celery's own setup
    return app


def run_worker(*, concurrency: int) -> None:
    """Run Celery's worker command in this process until SIGTERM; exits with its code.

    Raises:
        SystemExit: Always.
    """
    name = f"fleek-{os.getpid()}@%h"  # unique if several run on one host
    pool = ["--pool", "threads", "--concurrency", str(concurrency)]
    alone = ["--without-gossip", "--without-mingle"]
    ours = ["-A", "fleek.dispatch.celery", "--quiet", "worker", "--hostname", name]
    celery.main(args=[*ours, *pool, *alone])  # `worker_main` would ignore the exit code


def _refuse(reason: str) -> NoReturn:
    print(f"fleek: {reason}", file=sys.stderr)  # noqa: T201 - one line for the operator
    raise SystemExit(WRONG)
