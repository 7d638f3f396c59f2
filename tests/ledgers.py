"""What is true of money at any time: the spend is the sum of the charges."""

from collections import defaultdict
from typing import Any

from sqlalchemy import text

from fleek.store.database import Database


async def charges_of(db: Database) -> list[tuple[int, str, int | None, int | None]]:
    """Return number, state, estimate and actual of all charges, in the order of jobs."""
    async with db.read() as tx:
        found = await tx.execute(
            text("SELECT number, state, estimate, actual FROM charges ORDER BY job_id, number")
        )
        return [tuple(row) for row in found]


async def spend_of(db: Database) -> dict[tuple[str, str, str, str], tuple[int, int]]:
    """Return what is reserved and spent by tenant, key, period and start, after a check of it."""
    async with db.read() as tx:
        rows = (await tx.execute(text("SELECT * FROM spend"))).mappings().all()
        charges = (await tx.execute(text("SELECT * FROM charges"))).mappings().all()
    found = {
        (row["tenant_id"], row["key_id"], row["period"], row["start"]): (
            row["reserved"],
            row["spent"],
        )
        for row in rows
    }
    sums: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for place in found:
        tenant_id, key_id, _, start = place
        for charge in charges:
            if tenant_id in {"", charge["tenant_id"]} and key_id in {"", charge["key_id"]}:  # noqa: SIM102 - two thoughts
                if charge["day"].startswith(start):
                    reserved = charge["state"] == "reserved"
                    spent = charge["state"] == "spent"
                    sums[place][0] += (charge["estimate"] or 0) if reserved else 0
                    sums[place][1] += (charge["actual"] or 0) if spent else 0
    assert found == {place: tuple(sums[place]) for place in found}
    return found
