"""Callers that submit a scene's jobs, and cancel or collect some when their moment has come."""

import sqlite3
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from chaos.history import Client
from chaos.rig import Rig
from chaos.tenants import NAMES

LISTED: Final = "SELECT prompt, id, status, stage, worker_id FROM jobs"
ACTED_ON: Final = ("slow", "cancelled", "regained")
PAUSE_SECONDS: Final = 0.1  # between two queries of the database

_numbers = count(1)


@dataclass(slots=True)
class Callers:
    """Submit a scene's jobs for each tenant in turn, and cancel or collect some at their moment.

    Each accepted request is repeated, and another tenant requests the job without success.
    """

    rig: Rig
    jobs: dict[str, str]
    over: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)  # to submit
    prompts: dict[str, str] = field(default_factory=dict)  # and their tenant

    def run(self) -> None:
        """Submit all jobs despite crashes, and act on some until there is a response."""
        with self._clients() as clients:
            self.ready.set()
            for turn, (name, faults) in enumerate(self.jobs.items()):
                client, other = clients[turn % 2], clients[(turn + 1) % 2]
                prompt = f"{name} {next(_numbers)} {faults}".strip()
                key = prompt.replace(" ", "_")
                job_id = client.submit(prompt, key=key)
                self.prompts[prompt] = client.tenant
                if job_id is not None:
                    client.repeat(prompt, key=key)
                    other.peek(job_id, turn)
        self.act()

    def act(self) -> None:
        """Cancel or collect each chosen job, at its moment or at the end.

        A job without a response to its submission is found in the list.
        """
        with self._clients() as clients:
            self._act({client.tenant: client for client in clients})

    @contextmanager
    def _clients(self) -> Generator[Sequence[Client]]:
        clients = [self.rig.client(0, name) for name in NAMES]
        try:
            yield clients
        finally:
            for client in clients:
                client.close()

    def _act(self, clients: Mapping[str, Client]) -> None:
        wanted = [one for one in self.prompts if one.startswith(ACTED_ON)]
        while wanted:
            late, found = self.over.is_set(), self._listed()
            for prompt in tuple(wanted):
                client = clients[self.prompts[prompt]]
                if self._is_done(client, prompt, found.get(prompt), late=late):
                    wanted.remove(prompt)
            if late and wanted:
                return
            time.sleep(PAUSE_SECONDS)

    def _is_done(self, client: Client, prompt: str, row: list[Any] | None, *, late: bool) -> bool:
        """Act on one job at its moment, and return whether nothing is left to do."""
        if row is None:
            return late
        job_id, status, stage, held = row
        if prompt.startswith("regained"):
            if status != "failed":
                return late or status == "completed"
            return client.collect(str(UUID(str(job_id))))
        ready = stage == "collecting" and held is not None
        if prompt.startswith("cancelled"):
            ready = stage == "waiting"
        return (ready or late) and client.cancel(str(UUID(str(job_id))))

    def _listed(self) -> dict[str, list[Any]]:
        try:
            return {prompt: rest for prompt, *rest in self.rig.rows(LISTED)}
        except (sqlite3.OperationalError, asyncpg.UndefinedTableError):
            return {}  # the process failed before it had tables
