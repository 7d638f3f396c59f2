"""Settings become open collaborators: the one place that knows how they are put together."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from fleek import failpoints, registry
from fleek.dispatch.base import Measured
from fleek.engine.clock import Clock
from fleek.engine.pulse import Pulse
from fleek.engine.room import Room
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store.database import open_database
from fleek.telemetry import Metrics

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open everything that the settings name; closes it again at the end.

    The schema is not touched.

    Raises:
        ConfigurationError: A setting is wrong, or names what cannot be opened.
    """
    failpoints.arm(settings.fleek_failpoints)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(open_database(settings.database_url))
        known = registry.providers()
        providers = {
            name: registry.load(known, name, setting="PROVIDER") for name in settings.providers
        }
        storage = registry.load(
            registry.storages(), settings.storage_backend, setting="STORAGE_BACKEND"
        )
        dispatcher = registry.load(registry.dispatchers(), settings.dispatch, setting="DISPATCH")
        log.info("provider_chosen", provider=settings.provider, reason=settings.provider_reason)
        opened = await stack.enter_async_context(storage())
        carrier = await stack.enter_async_context(dispatcher())
        metrics = Metrics()
        if isinstance(carrier, Measured):
            metrics.show(carrier.figures)
        room, clock = Room(opened), Clock(db)
        stack.push_async_callback(room.close)
        yield Runtime(
            settings=settings,
            db=db,
            providers={
                name: await stack.enter_async_context(connect())
                for name, connect in providers.items()
            },
            storage=opened,
            dispatcher=carrier,
            now=clock,
            set_clock=clock.set,
            room=room,
            metrics=metrics,
            pulse=Pulse(
                db,
                heartbeat=settings.heartbeat_seconds,
                slots=settings.worker_concurrency,
                now=clock,
            ),
        )
