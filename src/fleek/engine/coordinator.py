"""The role that one worker holds at a time: admit, watch, recover, expire, sweep."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from itertools import chain
from typing import Any

import structlog

from fleek import failpoints
from fleek.domain.errors import FleekError
from fleek.engine.admit import Admission
from fleek.engine.expire import Expiry
from fleek.engine.pulse import ROLE_LASTS
from fleek.engine.recover import ProviderRecovery, Recovery, bury_the_dead
from fleek.engine.runtime import Runtime, guarded, loop
from fleek.engine.sweep import Sweep
from fleek.engine.watch import Watch
from fleek.store import workers

ROLE = "coordinator"
PATIENCE = timedelta(seconds=1)  # after a failed turn

log = structlog.get_logger(__name__)


async def coordinate(rt: Runtime) -> None:
    """Stand for the role for ever, and do its work while it is held."""
    while True:
        if await guarded(rt, ROLE, _stand(rt)):
            await _serve_a_term(rt)
        await asyncio.sleep(rt.pulse.heartbeat.total_seconds())


async def _stand(rt: Runtime) -> bool:
    """Try to take the role; one whose holder's process has ended is free at once."""
    await bury_the_dead(rt)
    return await _take_role(rt)


async def _take_role(rt: Runtime) -> bool:
    now = rt.now()
    until = now + rt.pulse.heartbeat * ROLE_LASTS
    failpoints.hit("role.take")
    return await workers.take_role(rt.db, ROLE, rt.pulse.worker_id, now=now, until=until)


async def _serve_a_term(rt: Runtime) -> None:
    log.info("coordinating", worker=str(rt.pulse.worker_id))
    rt.metrics.coordinating.set(1)
    turns = (
        loop(rt, "admit", Admission(rt).turn, patience=PATIENCE),
        loop(rt, "recover", Recovery(rt).turn, patience=PATIENCE),
        loop(rt, "expire", Expiry(rt).turn, patience=PATIENCE),
        loop(rt, "sweep", Sweep(rt).turn, patience=PATIENCE),
        *chain.from_iterable(_of_provider(rt, name) for name in rt.providers),
    )
    tasks = [asyncio.create_task(turn) for turn in turns]
    try:
        await _keep_role(rt)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        rt.metrics.coordinating.set(0)
        log.info("not_coordinating")


def _of_provider(rt: Runtime, name: str) -> Iterator[Coroutine[Any, Any, None]]:
    """Give the loops that ask one provider: one that hangs holds up no other."""
    watch, recovery = Watch(rt, name), ProviderRecovery(rt, name)
    yield loop(rt, "watch", watch.turn, patience=PATIENCE, name=f"watch {name}")
    yield loop(rt, "recover", recovery.settle_turn, patience=PATIENCE, name=f"settle {name}")
    yield loop(rt, "recover", recovery.stop_turn, patience=PATIENCE, name=f"stop {name}")


async def _keep_role(rt: Runtime) -> None:
    """Renew the role with each heartbeat; return when it is lost, or may be."""
    lasts = rt.pulse.heartbeat.total_seconds() * ROLE_LASTS
    renewed = time.monotonic()
    while time.monotonic() - renewed < lasts:
        await asyncio.sleep(rt.pulse.heartbeat.total_seconds())
        begun = time.monotonic()
        try:
            if not await _take_role(rt):
                return
        except FleekError as error:
            log.warning("role_not_renewed", reason=str(error))
        else:
            renewed = begun


async def resign(rt: Runtime) -> None:
    """Give the role back, so that another worker need not wait for its end."""
    try:
        failpoints.hit("role.drop")
        await workers.drop_role(rt.db, ROLE, rt.pulse.worker_id)
    except FleekError as error:
        log.warning("role_not_dropped", reason=str(error))
