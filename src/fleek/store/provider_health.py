"""Provider health: recent failures and pauses of an account or a model.

A row is written only when it changes. Without a row there was no recent failure.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, bindparam, delete, or_, select, text, update

from fleek.domain.values import dataclass
from fleek.store.database import Database, Reads
from fleek.store.prepared import Query
from fleek.store.tables import Instant, ProviderHealthRow

ALL_MODELS: Final = ""  # in place of a model: the whole account
SAME_TIME: Final = timedelta(seconds=2)  # processes' clocks differ by less
FORGOTTEN: Final = timedelta(hours=1)  # failures that nothing followed

PROVIDER_HEALTH: Final = ProviderHealthRow.__table__
_COLUMNS: Final = {"now": Instant(), "until": Instant()}
PAUSE: Final = text(
    "INSERT INTO accounts (provider, model, paused_until, reason, failures, updated_at)"
    " VALUES (:provider, '', :until, :reason, :failed, :now)"
    " ON CONFLICT (provider, model) DO UPDATE SET paused_until = excluded.paused_until,"
    " reason = excluded.reason, failures = accounts.failures + excluded.failures,"
    " updated_at = excluded.updated_at"
    " WHERE accounts.paused_until IS NULL OR accounts.paused_until < excluded.paused_until"
    " OR accounts.updated_at > excluded.updated_at"  # time has been set back since
).bindparams(*(bindparam(name, type_=kind) for name, kind in _COLUMNS.items()))
FAIL: Final = text(
    "INSERT INTO accounts (provider, model, reason, failures, updated_at)"
    " VALUES (:provider, :model, :reason, 1, :now)"
    " ON CONFLICT (provider, model) DO UPDATE SET failures = accounts.failures + 1,"
    " reason = excluded.reason, updated_at = excluded.updated_at"
    " WHERE accounts.paused_until IS NULL OR accounts.paused_until <= excluded.updated_at"
    " OR accounts.updated_at > excluded.updated_at"
).bindparams(bindparam("now", type_=Instant()))
PAUSED: Final = ProviderHealthRow.paused_until > bindparam("now")
IMPAIRED: Final = Query[Any](  # each turn of `admit` asks it
    select(PROVIDER_HEALTH).where(
        or_(PAUSED, ProviderHealthRow.failures > 0),
        or_(PAUSED, ProviderHealthRow.updated_at > bindparam("since")),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderHealth:
    """Recent failures and the pause of a provider's account, or of one of its models."""

    provider: str
    model: str  # `ALL_MODELS`: the provider's account
    paused_until: datetime | None  # no prediction is started before; None: not paused
    reason: str  # the code of the latest error
    failures: int  # in a row; if any, only a trial is started after the pause
    updated_at: datetime

    @property
    def is_paused(self) -> bool:
        """Whether it is paused, or was paused and no start has succeeded since."""
        return self.paused_until is not None

    def paused(self, now: datetime) -> bool:
        """Whether no prediction may be started yet.

        A pause that was written later than now is over: time was set back since, and how much of
        the pause is left is unknown.
        """
        if self.paused_until is None or self.updated_at > now + SAME_TIME:
            return False
        return self.paused_until > now

    def on_trial(self, now: datetime) -> bool:
        """Whether its pause is over, and no start has succeeded since."""
        return self.paused_until is not None and not self.paused(now) and self.failures > 0


async def impaired(db: Reads, *, now: datetime) -> list[ProviderHealth]:
    """Return the accounts and models with recent failures."""
    async with db.read(short=True) as tx:
        found = await IMPAIRED.dicts(tx, now=now, since=now - FORGOTTEN)
        return [ProviderHealth(**row) for row in found]


async def pause(
    db: Database, provider: str, *, until: datetime, reason: str, trial: bool, now: datetime
) -> ProviderHealth | None:
    """Pause a provider until then; None if it is paused for longer already.

    `trial`: afterwards a single start must succeed before others follow.
    """
    values = {"until": until, "reason": reason, "failed": int(trial), "now": now}
    async with db.write() as tx:
        if (await tx.execute(PAUSE, {"provider": provider, **values})).rowcount == 0:
            return None
        return await _get(tx, provider, ALL_MODELS)


async def fail(
    db: Database,
    provider: str,
    model: str,
    *,
    reason: str,
    pauses: Callable[[int], timedelta | None],
    now: datetime,
) -> ProviderHealth | None:
    """Count a failure of a model; None if it is paused already, as then nothing new was seen.

    `pauses` returns the duration of the pause after so many failures in a row, if any.
    """
    async with db.write() as tx:
        old = ProviderHealthRow.updated_at < now - FORGOTTEN
        over = or_(ProviderHealthRow.paused_until.is_(None), ProviderHealthRow.paused_until < now)
        await tx.execute(delete(ProviderHealthRow).where(old, over))
        values = {"provider": provider, "model": model, "reason": reason, "now": now}
        if (await tx.execute(FAIL, values)).rowcount == 0:
            return None
        account = await _get(tx, provider, model)
        duration = pauses(account.failures)
        if duration is not None:
            await tx.execute(
                update(ProviderHealthRow)
                .where(ProviderHealthRow.provider == provider, ProviderHealthRow.model == model)
                .values(paused_until=now + duration)
            )
            account = await _get(tx, provider, model)
    return account


async def clear(db: Database, provider: str, model: str, *, now: datetime) -> bool:
    """Record that a start of a model succeeded, whatever failed at the same time.

    Failures of the account are cleared, too, unless its pause has not ended: this start was earlier.
    Returns whether there were any.
    """
    over = or_(ProviderHealthRow.paused_until.is_(None), ProviderHealthRow.paused_until <= now)
    statement = delete(ProviderHealthRow).where(
        ProviderHealthRow.provider == provider,
        or_(ProviderHealthRow.model == model, and_(ProviderHealthRow.model == ALL_MODELS, over)),
        ProviderHealthRow.failures > 0,
    )
    async with db.write() as tx:
        return (await tx.execute(statement)).rowcount > 0


async def _get(tx: Any, provider: str, model: str) -> ProviderHealth:
    statement = select(PROVIDER_HEALTH).where(
        ProviderHealthRow.provider == provider, ProviderHealthRow.model == model
    )
    return ProviderHealth(**(await tx.execute(statement)).mappings().one())
