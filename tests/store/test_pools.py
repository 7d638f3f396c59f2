"""Connection pools: what all pools of a process share."""

from pathlib import Path

from sqlalchemy import literal, select

from fleek.store.database import open_database
from fleek.store.pools import STATEMENTS


async def test_a_statement_is_compiled_once_for_all_pools(tmp_path: Path) -> None:
    """Writer, readers and every further database of this kind share the compiled form."""
    statement = select(literal(1).label("asked_nowhere_else"))
    compiled = set()

    for name in ("a", "b"):
        async with open_database(f"sqlite:///{tmp_path}/{name}.db") as db:
            async with db.write() as tx:
                assert await tx.scalar(statement) == 1
            async with db.read() as tx:
                assert await tx.scalar(statement) == 1
        compiled |= {id(one) for one in STATEMENTS.values() if "asked_nowhere_else" in str(one)}

    assert len(compiled) == 1
