"""Leader election among workers: the coordinator runs the loops that must run once."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

import structlog

from fleek import failpoints
from fleek.domain.errors import FleekError
from fleek.engine.admit import Admission
from fleek.engine.bulk import BulkOperations
from fleek.engine.chains import Chains
from fleek.engine.deliver import DeliveryLoop
from fleek.engine.failover import Failover
from fleek.engine.heartbeat import ROLE_LASTS, Unchanged
from fleek.engine.loops import loop, run_logged
from fleek.engine.orphan_files import OrphanFiles
from fleek.engine.outlook import Outlook
from fleek.engine.purge import Retention
from fleek.engine.recover import ProviderRecovery, Recovery, expire_dead_workers
from fleek.engine.runtime import Runtime
from fleek.engine.watch import Watch
from fleek.store import workers

ROLE = "coordinator"
SHORTEST_LEASE = timedelta(seconds=10)  # a loaded machine may be late by seconds
PATIENCE = timedelta(seconds=1)  # after a failed turn

log = structlog.get_logger(__name__)


async def coordinate(rt: Runtime) -> None:
    """Try to become the coordinator for ever, and lead while the role is held."""
    renewed = Unchanged(rt.steady)
    while True:
        if await run_logged(rt, ROLE, partial(_try_acquire, rt, renewed)):
            await _lead(rt)
        await asyncio.sleep(rt.lease.heartbeat.total_seconds())


async def _try_acquire(rt: Runtime, renewed: Unchanged) -> bool:
    """Try to acquire the role: it is free if its holder has ended or its lease has lapsed.

    A lease has lapsed if it has not changed for its duration, by the steady clock of this process:
    no wall clock is compared.
    """
    await expire_dead_workers(rt)
    asked = rt.steady()
    lease = await workers.lease(rt.db, ROLE)
    unchanged = renewed.compare({ROLE: lease}, asked=asked)[ROLE]
    return await _acquire_role(
        rt, lapsed=lease if unchanged > _lasts(rt).total_seconds() else None
    )


async def _acquire_role(rt: Runtime, *, lapsed: workers.Lease | None = None) -> bool:
    until = rt.now() + _lasts(rt)
    failpoints.hit("leadership.acquire")
    return await workers.take_role(rt.db, ROLE, rt.lease.worker_id, until=until, lapsed=lapsed)


def _lasts(rt: Runtime) -> timedelta:
    """Return how long the lease lasts; that of a worker that has ended is free at once."""
    return max(rt.lease.heartbeat * ROLE_LASTS, SHORTEST_LEASE)


async def _lead(rt: Runtime) -> None:
    log.info("leadership_acquired", worker_id=str(rt.lease.worker_id))
    rt.metrics.coordinating.set(1)
    outlook, deliveries = Outlook(rt), DeliveryLoop(rt)
    run = partial(loop, rt, patience=PATIENCE, rest=outlook.rest)
    turns = (
        run("outlook", outlook.turn),
        run("admit", Admission(rt).turn),
        run("recover", Recovery(rt).turn),
        run("expire", Retention(rt).turn),
        run("sweep", OrphanFiles(rt).turn),
        run("chain", Chains(rt).turn),
        run("failover", Failover(rt).turn),
        run("bulk", BulkOperations(rt).turn),
        run("deliver", deliveries.turn),
        *chain.from_iterable(_of_provider(rt, name, run) for name in rt.providers),
    )
    tasks = [asyncio.create_task(turn) for turn in turns]
    try:
        await _renew_role(rt)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await deliveries.close()
        rt.metrics.coordinating.set(0)
        log.info("leadership_lost")


def _of_provider(
    rt: Runtime, name: str, run: Callable[..., Coroutine[Any, Any, None]]
) -> Iterator[Coroutine[Any, Any, None]]:
    """Yield the loops that call one provider: one that hangs blocks no other."""
    watch, recovery = Watch(rt, name), ProviderRecovery(rt, name)
    yield run("watch", watch.turn, name=f"watch {name}")
    yield run("recover", recovery.reconcile_turn, name=f"settle {name}")
    yield run("recover", recovery.cancel_turn, name=f"stop {name}")


async def _renew_role(rt: Runtime) -> None:
    """Renew the lease with each heartbeat; return when another worker has it, or may have it.

    A renewal that was confirmed late is still one: the database would have refused it if another
    worker had acquired the role. So a slow machine alone does not end leadership.
    """
    confirmed = rt.steady()
    while rt.steady() - confirmed < _lasts(rt).total_seconds():
        await asyncio.sleep(rt.lease.heartbeat.total_seconds())
        try:
            if not await _acquire_role(rt):
                return
        except FleekError as error:
            log.warning("leadership_not_renewed", reason=str(error))
        else:
            confirmed = rt.steady()
            await run_logged(rt, "clock", rt.clock.steer)


async def release_leadership(rt: Runtime) -> None:
    """Release the role, so that another worker need not wait until the lease lapses."""
    try:
        failpoints.hit("leadership.release")
        await workers.drop_role(rt.db, ROLE, rt.lease.worker_id)
    except FleekError as error:
        log.warning("leadership_not_released", reason=str(error))
