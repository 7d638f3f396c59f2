"""A worker's id is used once; a role has one holder."""

import asyncio

from fleek.domain.job import WorkerId
from fleek.store import workers
from fleek.store.database import Database
from samples import NOON, SECOND, a_worker

LATER = NOON + SECOND * 5


async def registered(db: Database, **fields: object) -> WorkerId:
    """Write a worker's first heartbeat."""
    worker = a_worker(**fields)
    await workers.register(db, worker)
    return worker.id


async def test_a_worker_is_running_while_it_sends_heartbeats(db: Database) -> None:
    """The oldest comes first, with the details that operators need."""
    worker = a_worker()
    await workers.register(db, worker)
    old = await registered(db, started_at=NOON - SECOND)

    found = await workers.alive(db, since=NOON)

    assert [one.id for one in found] == [old, worker.id]
    assert found[1] == worker
    assert await workers.alive(db, since=NOON + SECOND) == []


async def test_a_late_heartbeat_keeps_a_worker_running(db: Database) -> None:
    """Missed heartbeats alone do not end it."""
    quiet, loud = await registered(db), await registered(db)
    silent = await workers.running(db)

    assert await workers.beat(db, loud, now=LATER)
    await workers.end_silent(db, silent, now=LATER)

    assert not await workers.beat(db, quiet, now=LATER)
    assert [one.id for one in await workers.running(db)] == [loud]
    assert [one.id for one in await workers.alive(db, since=LATER)] == [loud]


async def test_an_expired_worker_stays_expired(db: Database) -> None:
    """Its heartbeat is refused, and it is neither overdue nor running."""
    worker_id = await registered(db)
    await workers.end(db, [worker_id], now=NOON)

    assert not await workers.beat(db, worker_id, now=LATER)
    assert await workers.running(db) == []
    assert await workers.alive(db, since=NOON) == []


async def test_one_of_many_candidates_acquires_a_role(db: Database) -> None:
    """They try at the same moment."""
    ids = [await registered(db) for _ in range(8)]

    answers = await asyncio.gather(
        *(workers.take_role(db, "coordinator", one, until=LATER) for one in ids)
    )

    assert answers.count(True) == 1
    assert await workers.holder(db, "coordinator", now=NOON) == ids[answers.index(True)]


async def test_a_role_is_lost_only_without_renewal(db: Database) -> None:
    """Only an unchanged lease may be taken over, whatever its time."""
    first, second = await registered(db), await registered(db)
    role = "coordinator"

    assert await workers.take_role(db, role, first, until=NOON)
    seen = await workers.lease(db, role)
    assert await workers.take_role(db, role, first, until=LATER)
    assert not await workers.take_role(db, role, second, until=LATER)
    assert not await workers.take_role(db, role, second, until=LATER, lapsed=seen)
    assert await workers.holder(db, role, now=LATER + SECOND) is None
    lapsed = await workers.lease(db, role)
    assert await workers.take_role(db, role, second, until=LATER + SECOND, lapsed=lapsed)


async def test_a_released_role_is_free_at_once(db: Database) -> None:
    """Only its holder can release it."""
    first, second = await registered(db), await registered(db)
    await workers.take_role(db, "coordinator", first, until=LATER)

    await workers.drop_role(db, "coordinator", second)
    still = await workers.holder(db, "coordinator", now=NOON)
    await workers.drop_role(db, "coordinator", first)

    assert still == first
    assert await workers.holder(db, "coordinator", now=NOON) is None
    assert await workers.take_role(db, "coordinator", second, until=LATER)
