"""Workers live once; a role has one holder."""

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


async def test_a_worker_is_alive_while_it_is_heard(db: Database) -> None:
    """The oldest first, with what operators want to know."""
    worker = a_worker()
    await workers.register(db, worker)
    old = await registered(db, started_at=NOON - SECOND)

    found = await workers.alive(db, since=NOON)

    assert [one.id for one in found] == [old, worker.id]
    assert found[1] == worker
    assert await workers.alive(db, since=NOON + SECOND) == []


async def test_a_heartbeat_ends_the_silence(db: Database) -> None:
    """One that is heard after it seemed to be silent lives on."""
    quiet, loud = await registered(db), await registered(db)
    silent = await workers.running(db)

    assert await workers.beat(db, loud, now=LATER)
    await workers.end_silent(db, silent, now=LATER)

    assert not await workers.beat(db, quiet, now=LATER)
    assert [one.id for one in await workers.running(db)] == [loud]
    assert [one.id for one in await workers.alive(db, since=LATER)] == [loud]


async def test_a_worker_that_was_taken_for_dead_stays_dead(db: Database) -> None:
    """Its heartbeat is refused, and it is neither silent nor alive."""
    worker_id = await registered(db)
    await workers.end(db, [worker_id], now=NOON)

    assert not await workers.beat(db, worker_id, now=LATER)
    assert await workers.running(db) == []
    assert await workers.alive(db, since=NOON) == []


async def test_of_many_that_want_a_role_one_has_it(db: Database) -> None:
    """At the same moment."""
    ids = [await registered(db) for _ in range(8)]

    answers = await asyncio.gather(
        *(workers.take_role(db, "coordinator", one, until=LATER) for one in ids)
    )

    assert answers.count(True) == 1
    assert await workers.holder(db, "coordinator", now=NOON) == ids[answers.index(True)]


async def test_a_role_is_kept_by_its_holder_and_lost_if_it_is_not_renewed(db: Database) -> None:
    """Only a lease that is as it was seen may be taken, whatever its time is."""
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


async def test_a_role_that_is_given_back_is_free_at_once(db: Database) -> None:
    """Only its holder can give it back."""
    first, second = await registered(db), await registered(db)
    await workers.take_role(db, "coordinator", first, until=LATER)

    await workers.drop_role(db, "coordinator", second)
    still = await workers.holder(db, "coordinator", now=NOON)
    await workers.drop_role(db, "coordinator", first)

    assert still == first
    assert await workers.holder(db, "coordinator", now=NOON) is None
    assert await workers.take_role(db, "coordinator", second, until=LATER)
