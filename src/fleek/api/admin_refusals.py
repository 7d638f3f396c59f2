"""Refused requests of operators' routes, for the audit log: counted, in one line a minute.

However many there are, they cost this process one write a minute.
"""

import asyncio
from collections import Counter
from functools import partial
from typing import Final

from fleek.domain.audit import Action, Actor, AuditEntry, entry
from fleek.domain.job import DEFAULT_TENANT
from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime
from fleek.store import audit

WINDOW_SECONDS: Final = 60.0
MOST_ACTORS: Final = 10  # that a line names


class AdminRefusals:
    """The refusals of one process. The first is written at once, then those of a minute together."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._first: tuple[Actor, str] | None = None  # who was refused, and of which tenant
        self._codes: Counter[str] = Counter()
        self._routes: Counter[str] = Counter()
        self._actors: dict[str, None] = {}
        self._next: asyncio.TimerHandle | None = None  # None: the next refusal is written at once

    def add(self, by: Actor, *, tenant_id: str | None, route: str, code: str) -> None:
        """Count a refused request; `tenant_id` None: of a caller without a valid key."""
        self._first = self._first or (by, tenant_id or DEFAULT_TENANT)
        self._codes[code] += 1
        self._routes[route] += 1
        if len(self._actors) < MOST_ACTORS:
            self._actors[by.name] = None
        if self._next is None:
            self._write_counted()

    def close(self) -> None:
        """Begin to write what has been counted: the process ends."""
        if self._next is not None:
            self._next.cancel()
            self._write_counted()

    def _write_counted(self) -> None:
        """Begin to write a line about what has been counted, if there is anything."""
        self._next = None
        if self._first is None:
            return
        work = partial(audit.write, self._rt.db, self._line(*self._first))
        self._rt.keys.tasks.begin(run_logged(self._rt, "audit", work))
        self._first = None
        for counted in (self._codes, self._routes, self._actors):
            counted.clear()
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(WINDOW_SECONDS, self._write_counted)

    def _line(self, by: Actor, tenant_id: str) -> AuditEntry:
        return entry(
            Action.ADMIN_REFUSED,
            "admin",
            by=by,
            tenant_id=tenant_id,
            at=self._rt.now(),
            requests=self._codes.total(),
            codes=dict(self._codes),
            routes=dict(self._routes),
            actors=list(self._actors),
        )
