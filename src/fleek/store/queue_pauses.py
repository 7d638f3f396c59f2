"""Pauses of the queue by an operator: of all of it, of a provider, or of a model.

They stay until they are ended, whatever restarts. Pauses that the service decides on by itself are in
`fleek.store.provider_health`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, delete, select, text

from fleek.domain.audit import AuditEntry
from fleek.domain.values import dataclass
from fleek.store.audit import record
from fleek.store.database import Database, Reads
from fleek.store.prepared import Query
from fleek.store.tables import Instant, QueuePauseRow

EVERY: Final = ""  # in place of a provider or a model: all of them
PAUSE: Final = text(
    "INSERT INTO queue_pauses (provider, model, since) VALUES (:provider, :model, :since)"
    " ON CONFLICT (provider, model) DO NOTHING"
).bindparams(bindparam("since", type_=Instant()))


@dataclass(frozen=True, slots=True)
class QueuePause:
    """What an operator has paused: no prediction of it is started."""

    provider: str  # or `EVERY`
    model: str  # or `EVERY`
    since: datetime

    @property
    def name(self) -> str:
        """What it pauses, for people."""
        return f"{self.model or 'every model'} of {self.provider or 'every provider'}"

    def covers(self, provider: str, model: str) -> bool:
        """Whether it pauses this model; with `EVERY` as the model, all models of the provider."""
        return self.provider in {EVERY, provider} and self.model in {EVERY, model}


PAUSES: Final = Query[Any](
    select(QueuePauseRow.provider, QueuePauseRow.model, QueuePauseRow.since).order_by(
        QueuePauseRow.since
    )
)


async def read(db: Reads) -> Sequence[QueuePause]:
    """Return all pauses, the longest first."""
    async with db.read(short=True) as tx:
        return [QueuePause(*row) for row in await PAUSES.rows(tx)]


async def pause(
    db: Database, provider: str, model: str, *, now: datetime, audit: AuditEntry | None = None
) -> None:
    """Pause a part of the queue; one that is paused stays so."""
    async with db.write() as tx:
        paused = await tx.execute(PAUSE, {"provider": provider, "model": model, "since": now})
        if paused.rowcount:
            await record(tx, audit)


async def resume(
    db: Database, provider: str, model: str, *, audit: AuditEntry | None = None
) -> bool:
    """End the pause of exactly this part; False if there is none."""
    statement = delete(QueuePauseRow).where(
        QueuePauseRow.provider == provider, QueuePauseRow.model == model
    )
    async with db.write() as tx:
        if not (await tx.execute(statement)).rowcount:
            return False
        await record(tx, audit)
    return True
