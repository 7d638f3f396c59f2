"""Settings become open collaborators: the one place that knows how they are put together."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

import structlog

from fleek import failpoints, registry
from fleek.dispatch.base import Dispatcher, Measured
from fleek.engine.capacity import StorageCapacity
from fleek.engine.clock import Clock
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.runtime import Runtime
from fleek.engine.stops import Stops
from fleek.providers.base import Provider
from fleek.settings import Settings
from fleek.storage.base import Storage
from fleek.store.database import open_database
from fleek.system_clock import shift_from
from fleek.telemetry import Metrics

LAST_STOPS_SECONDS: Final = 2.0  # for requests to stop predictions, when the process ends

log = structlog.get_logger(__name__)


class _Adapters(NamedTuple):
    """The ``connect`` of each adapter that the settings name."""

    providers: Mapping[str, Callable[[], AbstractAsyncContextManager[Provider]]]
    storage: Callable[[], AbstractAsyncContextManager[Storage]]
    dispatcher: Callable[[], AbstractAsyncContextManager[Dispatcher]]


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open everything that the settings name; closes it again at the end.

    The schema is not touched.

    Raises:
        ConfigurationError: A setting is wrong, or names what cannot be opened.
    """
    failpoints.arm(settings.fleek_failpoints)
    shift_from(settings.fleek_clock_file)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(open_database(settings.database_url))
        adapters = _load(settings)  # all, before any is opened
        log.info("provider_chosen", provider=settings.provider, reason=settings.provider_reason)
        storage = await stack.enter_async_context(adapters.storage())
        dispatcher = await stack.enter_async_context(adapters.dispatcher())
        metrics = Metrics()
        if isinstance(dispatcher, Measured):
            metrics.show(dispatcher.figures)
        capacity, clock = StorageCapacity(storage), Clock(db)
        stack.push_async_callback(capacity.close)
        providers = {
            name: await stack.enter_async_context(connect())
            for name, connect in adapters.providers.items()
        }
        stops = Stops()
        stack.push_async_callback(stops.sending.finish, seconds=LAST_STOPS_SECONDS)
        yield Runtime(
            settings=settings,
            db=db,
            providers=providers,
            storage=storage,
            dispatcher=dispatcher,
            now=clock,
            clock=clock,
            capacity=capacity,
            metrics=metrics,
            stops=stops,
            lease=WorkerLease(
                db,
                heartbeat=settings.heartbeat_seconds,
                slots=settings.worker_concurrency,
                now=clock,
            ),
        )


def _load(settings: Settings) -> _Adapters:
    known = registry.providers()
    return _Adapters(
        {name: registry.load(known, name, setting="PROVIDER") for name in settings.providers},
        registry.load(registry.storages(), settings.storage_backend, setting="STORAGE_BACKEND"),
        registry.load(registry.dispatchers(), settings.dispatch, setting="DISPATCH"),
    )
