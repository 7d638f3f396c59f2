"""What was spent, by day, model, provider, key or tenant."""

from typing import Any, Final

from sqlalchemy import Select, case, func, select

from fleek.domain.charges import ChargeState
from fleek.domain.money import Micros
from fleek.domain.usage import GroupBy, Usage
from fleek.store.database import Database
from fleek.store.tables import ChargeRow

MOST_ROWS: Final = 10_000


COLUMNS: Final[dict[GroupBy, Any]] = {
    GroupBy.DAY: ChargeRow.day,
    GroupBy.MODEL: ChargeRow.model,
    GroupBy.PROVIDER: ChargeRow.provider,
    GroupBy.KEY: ChargeRow.key_id,
    GroupBy.TENANT: ChargeRow.tenant_id,
}


async def read_usage(
    db: Database, by: GroupBy, *, tenant_id: str | None, first: str, last: str
) -> list[Usage]:
    """Return what was spent from one day to another, both included; by name, at most `MOST_ROWS`.

    `tenant_id`: None is all tenants. A charge belongs to the day on which it was reserved.
    """
    async with db.read() as tx:
        found = (
            await tx.execute(statement(by, tenant_id=tenant_id, first=first, last=last))
        ).all()
    return [
        Usage(
            name=row.name,
            attempts=int(row.attempts),
            unknown=int(row.unknown),
            cost=Micros(int(row.cost or 0)),
            reserved=Micros(int(row.reserved or 0)),
        )
        for row in found
    ]


def statement(by: GroupBy, *, tenant_id: str | None, first: str, last: str) -> Select[Any]:
    """Return the statement that adds up; see `read_usage`."""
    spent = ChargeRow.state == ChargeState.SPENT.value
    reserved = ChargeRow.state == ChargeState.RESERVED.value
    name = COLUMNS[by]
    query = (
        select(
            name.label("name"),
            func.sum(case((spent, 1), else_=0)).label("attempts"),
            func.sum(case((spent & ChargeRow.actual.is_(None), 1), else_=0)).label("unknown"),
            func.sum(case((spent, ChargeRow.actual), else_=0)).label("cost"),
            func.sum(case((reserved, ChargeRow.estimate), else_=0)).label("reserved"),
        )
        .where(
            ChargeRow.day >= first,
            ChargeRow.day <= last,
            ChargeRow.state != ChargeState.RELEASED.value,
        )
        .group_by(name)
        .order_by(name)
        .limit(MOST_ROWS)
    )
    return query if tenant_id is None else query.where(ChargeRow.tenant_id == tenant_id)
