"""Pools of connections: what all of a process have in common."""

from pathlib import Path

from sqlalchemy import literal, select

from fleek.store.database import open_database
from fleek.store.pools import STATEMENTS


async def test_a_statement_is_compiled_once_for_all_pools(tmp_path: Path) -> None:
    """The writer, the readers and every further database of this kind find it compiled."""
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
