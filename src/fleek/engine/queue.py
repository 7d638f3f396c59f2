"""Pause and resume the queue, for operators."""

import structlog

from fleek.domain.audit import COMMAND_LINE, Action, Actor, AuditEntry, entry
from fleek.domain.job import DEFAULT_TENANT
from fleek.engine.routes import provider_of
from fleek.engine.runtime import Runtime
from fleek.engine.throttle import refresh_pauses
from fleek.store import queue_pauses
from fleek.store.queue_pauses import EVERY

log = structlog.get_logger(__name__)


async def pause(
    rt: Runtime, provider: str | None, model: str | None, *, by: Actor = COMMAND_LINE
) -> None:
    """Start no more predictions: None is every provider, or every model.

    Jobs stay in the queue, and running predictions are collected. Other processes follow with their
    next heartbeat.

    Raises:
        InvalidInput: There is no such provider.
    """
    if provider is not None:
        provider_of(rt, provider)
    line = _line(rt, Action.QUEUE_PAUSED, provider, model, by)
    part = (provider or EVERY, model or EVERY)
    await queue_pauses.pause(rt.db, *part, now=line.at, audit=line)
    log.warning("queue_paused", provider=provider, model=model)
    await refresh_pauses(rt)


async def resume(
    rt: Runtime, provider: str | None, model: str | None, *, by: Actor = COMMAND_LINE
) -> None:
    """End the pause of exactly this part, if there is one."""
    line = _line(rt, Action.QUEUE_RESUMED, provider, model, by)
    if await queue_pauses.resume(rt.db, provider or EVERY, model or EVERY, audit=line):
        log.info("queue_resumed", provider=provider, model=model)
    await refresh_pauses(rt)
    rt.wakeups.notify("admit")


def _line(
    rt: Runtime, action: Action, provider: str | None, model: str | None, by: Actor
) -> AuditEntry:
    part = {"provider": provider, "model": model}
    return entry(action, "queue", by=by, tenant_id=DEFAULT_TENANT, at=rt.now(), **part)
