"""Callers that submit a scene's jobs, and cancel some of them when their moment has come."""

import sqlite3
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from chaos.history import Client
from chaos.rig import Rig

LISTED: Final = "SELECT prompt, id, stage, worker_id FROM jobs"
PAUSE_SECONDS: Final = 0.1  # between two looks at the database

_numbers = count(1)


@dataclass(slots=True)
class Callers:
    """Submit a scene's jobs, and cancel some when their moment has come."""

    rig: Rig
    jobs: dict[str, str]
    over: threading.Event = field(default_factory=threading.Event)
    prompts: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Submit all, whoever dies meanwhile, and cancel until an answer comes."""
        client = Client(self.rig, self.rig.history, 0)
        try:
            for name, faults in self.jobs.items():
                prompt = f"{name} {next(_numbers)} {faults}".strip()
                client.submit(prompt)
                self.prompts.append(prompt)
            self.cancel(client)
        finally:
            client.close()

    def cancel(self, client: Client) -> None:
        """Cancel each job that is to be, at its moment or when all is over.

        That one whose submit was not answered is there, its caller would see in the list.
        """
        wanted = [one for one in self.prompts if one.startswith(("slow", "cancelled"))]
        while wanted:
            late = self.over.is_set()
            found = self._listed()
            for prompt in tuple(wanted):
                job_id, stage, held = found.get(prompt, (None, None, None))
                if prompt.startswith("slow"):
                    ready = stage == "collecting" and held is not None
                else:
                    ready = stage == "waiting"
                gone = job_id is None and late
                if gone or ((ready or late) and client.cancel(str(UUID(str(job_id))))):
                    wanted.remove(prompt)
            if late and wanted:
                return
            time.sleep(PAUSE_SECONDS)

    def _listed(self) -> dict[str, list[Any]]:
        try:
            return {prompt: rest for prompt, *rest in self.rig.rows(LISTED)}
        except (sqlite3.OperationalError, asyncpg.UndefinedTableError):
            return {}  # it was hurt before it had tables
