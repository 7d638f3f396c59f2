"""Whether anything waits for the loops of the coordinator: one statement in place of one per loop.

Each question is for the first entry of a partial index, in the index's whole order: planners find
the index then, whatever they believe of the number of its rows, and a finished job costs nothing.
"""

from typing import Any, Final

from sqlalchemy import text

from fleek.store.database import Database
from fleek.store.prepared import Query
from fleek.store.tables import BEING_REMOVED, BOUND, PURGING, ROUTED, UNDELIVERED

FIRST: Final = {
    "pending": ("jobs", "status = 'pending'", "provider, priority, run_at, id"),
    "collecting": ("jobs", "stage = 'collecting' AND worker_id IS NULL", "run_at"),
    "held": ("jobs", "worker_id IS NOT NULL", "worker_id"),
    "bound": ("attempts", BOUND, "first_look_at, id"),
    "routed": ("jobs", ROUTED, "provider, run_at, id"),
    "linked": ("job_inputs", "waiting", "job_id, number"),
    "owed": ("deliveries", UNDELIVERED, "lane, next_at, id"),
    "bulk": ("bulk_operations", "ended_at IS NULL", "pages, id"),
    "purging": ("jobs", PURGING, "updated_at, id"),
    "removing": ("uploads", BEING_REMOVED, "id"),
}
"""Where the first row of each kind is: jobs in the queue, results to be collected, jobs that a worker
holds, running predictions, jobs with other routes, jobs that wait for others, deliveries, operations on
many jobs, jobs to be erased, uploads to be removed."""

_FIRST: Final = (
    f"(SELECT 1 FROM {table} WHERE {where} ORDER BY {order} LIMIT 1) IS NOT NULL"  # noqa: S608 - constants
    for table, where, order in FIRST.values()
)
OUTLOOK: Final = Query[Any](text(f"SELECT {', '.join(_FIRST)}"))


async def waiting_kinds(db: Database) -> frozenset[str]:
    """Return the kinds of `FIRST` of which there is a row."""
    async with db.read(short=True) as tx:
        (found,) = await OUTLOOK.rows(tx)
    return frozenset(kind for kind, waits in zip(FIRST, found, strict=True) if waits)
