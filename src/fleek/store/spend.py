"""Charges, and what is spent and reserved of each budget: the only module that writes them.

Every change of a job that moves money hands its charges in here, in the commit of the change. A period
of a budget has one row, which all charges in its scope are added to. Without a budget there is no such
row, and nothing to wait for.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    TextClause,
    and_,
    bindparam,
    delete,
    insert,
    select,
    text,
    update,
)

from fleek.domain.audit import AuditEntry
from fleek.domain.budgets import EVERYBODY, Budget, Payer, Period, Scope, Spent
from fleek.domain.charges import Charge, Movement
from fleek.domain.errors import NotFound
from fleek.domain.money import Micros
from fleek.store import rows
from fleek.store.audit import record
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query, Write
from fleek.store.tables import BudgetRow, ChargeRow, SpendRow

BUDGETS_SPACE: Final = 0x666C6E  # ours, among the advisory locks of the database
SPEND_SPACE: Final = 0x666C6F

CHARGE: Final = rows.Mapper(Charge)
SELECT_BUDGETS: Final = Query[Any](
    select(BudgetRow.tenant_id, BudgetRow.key_id, BudgetRow.period, BudgetRow.limit_micros).where(
        BudgetRow.tenant_id.in_(bindparam("tenants", expanding=True))
    )
)
SELECT_SPEND: Final = Query[Any](
    select(
        *(SpendRow.tenant_id, SpendRow.key_id, SpendRow.period, SpendRow.start),
        *(SpendRow.reserved, SpendRow.spent),
    ).where(
        SpendRow.tenant_id.in_(bindparam("tenants", expanding=True)),
        SpendRow.start.in_(bindparam("starts", expanding=True)),
    )
)
ADD_SPEND: Final = Write(
    text(
        "INSERT INTO spend (tenant_id, key_id, period, start, reserved, spent)"
        " VALUES (:tenant_id, :key_id, :period, :start, :reserved, :spent)"
        " ON CONFLICT (tenant_id, key_id, period, start) DO UPDATE SET"
        " reserved = spend.reserved + excluded.reserved, spent = spend.spent + excluded.spent"
    )
)
LOCKS: Final = {
    (space, way): Query[Any](text(f"SELECT pg_advisory_xact_lock{way}({space}, 0)"))
    for space in (BUDGETS_SPACE, SPEND_SPACE)
    for way in ("", "_shared")
}


class Place(NamedTuple):
    """A row of the spend: a period of a budget."""

    scope: Scope
    period: Period
    start: str


class Spend:
    """What one transaction does to charges and to the spend."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._budgets: dict[Scope, list[Budget]] = {}
        self._known: set[str] = set()  # tenants whose budgets were read
        self._left: dict[Place, int] = {}
        self._charges: dict[tuple[Any, int], Charge] = {}
        self._moved: list[tuple[Payer, int, int]] = []

    async def lock(self, payers: Iterable[Payer]) -> None:
        """Read what is left of the budgets that these payers have.

        Other transactions that change the same wait until this one has ended.
        """
        wanted = set(payers)
        await self._read_budgets(wanted)
        places = {place for payer in wanted for place, _ in self._places(payer)}
        if not places:
            return
        await self._lock_spend()
        found = await SELECT_SPEND.rows(
            self._tx,
            tenants=rows.padded(sorted({place.scope.tenant_id for place in places})),
            starts=rows.padded(sorted({place.start for place in places})),
        )
        used = {
            Place(Scope(tenant_id, key_id), Period(period), start): reserved + spent
            for tenant_id, key_id, period, start, reserved, spent in found
        }
        for payer in wanted:
            for place, budget in self._places(payer):
                self._left[place] = budget.limit - used.get(place, 0)

    def exhausted(self, movement: Movement) -> Budget | None:
        """Return a budget without room for a new charge; None: all have room. See `lock`."""
        held = movement.before
        more = movement.after.reserved - (0 if held is None else held.reserved)
        if more <= 0:
            return None
        for place, budget in self._places(movement.after.payer):
            if place in self._left and self._left[place] < more:
                return budget
        return None

    def add(self, movements: Iterable[Movement]) -> None:
        """Add changed charges, to be written."""
        for before, after in ((movement.before, movement.after) for movement in movements):
            self._charges[after.job_id, after.number] = after
            if before is not None:
                self._move(before.payer, -before.reserved, -before.spent)
            self._move(after.payer, after.reserved, after.spent)

    def _move(self, payer: Payer, reserved: int, spent: int) -> None:
        if not reserved and not spent:
            return
        self._moved.append((payer, reserved, spent))
        for place, _ in self._places(payer):
            if place in self._left:
                self._left[place] -= reserved + spent

    async def write(self) -> None:
        """Write the charges that were added, and what they change of the spend."""
        if not self._charges:
            return
        await self._read_budgets({payer for payer, _, _ in self._moved})
        added = self._sums()
        if added:
            await self._lock_spend()
            await ADD_SPEND.run(self._tx, added)
        await UPSERT.run(self._tx, self._charges.values())

    def _sums(self) -> list[rows.Values]:
        sums: dict[Place, Counter[str]] = {}
        for payer, reserved, spent in self._moved:
            for place, _ in self._places(payer):
                amounts = sums.setdefault(place, Counter())
                amounts["reserved"] += reserved
                amounts["spent"] += spent
        return [
            {
                **place.scope._asdict(),
                "period": place.period.value,
                "start": place.start,
                "reserved": amounts["reserved"],
                "spent": amounts["spent"],
            }
            for place, amounts in sorted(sums.items())
            if amounts["reserved"] or amounts["spent"]
        ]

    def _places(self, payer: Payer) -> Iterator[tuple[Place, Budget]]:
        """Yield the periods that a charge counts in."""
        for scope in payer.scopes():
            for budget in self._budgets.get(scope, ()):
                yield Place(scope, budget.period, budget.period.start(payer.day)), budget

    async def _read_budgets(self, payers: Iterable[Payer]) -> None:
        tenants = {payer.tenant_id for payer in payers} - self._known
        if not tenants:
            return
        if not self._known:
            await lock(self._tx, BUDGETS_SPACE, shared=True)
            tenants.add(EVERYBODY.tenant_id)
        self._known |= tenants
        for budget in await read_budgets(self._tx, tenants):
            self._budgets.setdefault(budget.scope, []).append(budget)

    async def _lock_spend(self) -> None:
        await lock(self._tx, SPEND_SPACE)


async def lock(tx: Transaction, space: int, *, shared: bool = False) -> None:
    """Wait for other transactions that have this lock; it is freed with the commit.

    SQLite has one writer anyway.
    """
    if tx.dialect.name == "postgresql":
        way = "_shared" if shared else ""
        await LOCKS[space, way].rows(tx)


async def read_budgets(tx: Transaction, tenants: Iterable[str]) -> list[Budget]:
    """Return the budgets of these tenants and of their keys; of `""`, that of everybody."""
    found = await SELECT_BUDGETS.rows(tx, tenants=rows.padded(sorted(tenants)))
    return [_budget(*row) for row in found]


def _budget(tenant_id: str, key_id: str, period: str, limit: int) -> Budget:
    return Budget(scope=Scope(tenant_id, key_id), period=Period(period), limit=Micros(limit))


def _upsert() -> TextClause:
    """Return the statement that writes a charge, whether it is there or not."""
    columns = ", ".join(CHARGE.columns)
    values = ", ".join(f":{column}" for column in CHARGE.columns)
    key = {"job_id", "number"}
    changed = ", ".join(f"{name} = excluded.{name}" for name in CHARGE.columns if name not in key)
    statement = text(
        f"INSERT INTO charges ({columns}) VALUES ({values})"  # noqa: S608 - names of columns
        f" ON CONFLICT (job_id, number) DO UPDATE SET {changed}"
    )
    kinds = ChargeRow.__table__.columns
    return statement.bindparams(*[bindparam(kind.name, type_=kind.type) for kind in kinds])


UPSERT: Final = Write(_upsert(), mapper=CHARGE)


SUMS: Final = (
    "INSERT INTO spend (tenant_id, key_id, period, start, reserved, spent)"
    " SELECT CAST(:tenant_id AS VARCHAR(64)), CAST(:key_id AS VARCHAR(80)),"
    " CAST(:period AS VARCHAR(8)), substr(day, 1, {characters}) AS begun,"
    " SUM(CASE WHEN state = 'reserved' THEN COALESCE(estimate, 0) ELSE 0 END),"
    " SUM(CASE WHEN state = 'spent' THEN COALESCE(actual, 0) ELSE 0 END)"
    " FROM charges{condition} GROUP BY begun"
)


async def set_budget(db: Database, budget: Budget, line: AuditEntry) -> None:
    """Set a budget, and write the line of the audit log about it with the change.

    What was spent and is reserved already counts: no charge is written meanwhile.
    """
    values = {**budget.scope._asdict(), "period": budget.period.value}
    limit = update(BudgetRow).where(*_is_of(budget)).values(limit_micros=budget.limit)
    async with db.write() as tx:
        await lock(tx, BUDGETS_SPACE)
        changed = await tx.execute(limit)
        if not changed.rowcount:
            await tx.execute(insert(BudgetRow).values(**values, limit_micros=budget.limit))
            await tx.execute(_sums(budget), values)
        await record(tx, line)


async def remove_budget(db: Database, budget: Budget, line: AuditEntry) -> None:
    """Remove a budget; see `set_budget`.

    Raises:
        NotFound: There is none.
    """
    async with db.write() as tx:
        await lock(tx, BUDGETS_SPACE)
        removed = await tx.execute(delete(BudgetRow).where(*_is_of(budget)))
        if not removed.rowcount:
            raise NotFound("there is no such budget")
        tenant_id, key_id = budget.scope
        await tx.execute(
            delete(SpendRow).where(
                SpendRow.tenant_id == tenant_id,
                SpendRow.key_id == key_id,
                SpendRow.period == budget.period.value,
            )
        )
        await record(tx, line)


def _is_of(budget: Budget) -> tuple[ColumnElement[bool], ...]:
    tenant_id, key_id = budget.scope
    return (
        BudgetRow.tenant_id == tenant_id,
        BudgetRow.key_id == key_id,
        BudgetRow.period == budget.period.value,
    )


def _sums(budget: Budget) -> TextClause:
    """Return the statement that adds up the charges in a scope, one row for each period."""
    conditions = []
    if budget.scope.tenant_id:
        conditions.append("tenant_id = :tenant_id")
    if budget.scope.key_id:
        conditions.append("key_id = :key_id")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return text(SUMS.format(characters=budget.period.characters, condition=where))


async def list_spent(db: Database, *, tenant_id: str | None, day: str) -> list[Spent]:
    """Return budgets with what is spent in the period that a day is in.

    Of one tenant and its keys; None: all budgets.
    """
    statement = select(BudgetRow, SpendRow).outerjoin(
        SpendRow,
        and_(
            SpendRow.tenant_id == BudgetRow.tenant_id,
            SpendRow.key_id == BudgetRow.key_id,
            SpendRow.period == BudgetRow.period,
            SpendRow.start.in_({period.start(day) for period in Period}),
        ),
    )
    if tenant_id is not None:
        statement = statement.where(BudgetRow.tenant_id == tenant_id)
    columns = (*BudgetRow.__table__.c, SpendRow.reserved, SpendRow.spent)
    ordered = statement.with_only_columns(*columns).order_by(
        BudgetRow.tenant_id, BudgetRow.key_id, BudgetRow.period
    )
    async with db.read() as tx:
        found = (await tx.execute(ordered)).all()
    return [_spent(row, day) for row in found]


def _spent(row: Any, day: str) -> Spent:
    budget = _budget(row.tenant_id, row.key_id, row.period, row.limit_micros)
    return Spent(
        budget=budget,
        start=budget.period.start(day),
        reserved=Micros(row.reserved or 0),
        spent=Micros(row.spent or 0),
    )
