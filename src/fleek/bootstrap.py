"""Settings become open collaborators: the one place that knows how they are put together."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import structlog

from fleek import failpoints, registry
from fleek.conformance import misfits
from fleek.dispatch.base import Dispatcher, Measured
from fleek.engine.capacity import StorageCapacity
from fleek.engine.clock import Clock
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.provider_limits import CancelRequests
from fleek.engine.runtime import Runtime
from fleek.providers.base import Provider, provider_misfits
from fleek.settings import Settings, renamed_in_use
from fleek.storage.base import Storage
from fleek.store.database import open_database
from fleek.system_clock import shift_from
from fleek.telemetry import Metrics

LAST_CANCELS_SECONDS: Final = 2.0  # for cancel requests when the process ends

log = structlog.get_logger(__name__)


def open_provider(name: str) -> AbstractAsyncContextManager[Provider]:
    """Return what opens a provider; its module is imported now.

    Raises:
        ConfigurationError: See `registry.open_adapter`.
    """
    known = registry.providers()
    return registry.open_adapter(known, name, setting="PROVIDERS", misfits=provider_misfits)


def open_storage(settings: Settings) -> AbstractAsyncContextManager[Storage]:
    """Return what opens the storage; see `open_provider`."""
    return registry.open_adapter(
        registry.storages(),
        settings.storage_backend,
        setting="STORAGE_BACKEND",
        misfits=partial(misfits, port=Storage),
    )


def open_dispatcher(settings: Settings) -> AbstractAsyncContextManager[Dispatcher]:
    """Return what opens the dispatcher; see `open_provider`."""
    return registry.open_adapter(
        registry.dispatchers(),
        settings.dispatch,
        setting="DISPATCH",
        misfits=partial(misfits, port=Dispatcher, capabilities=[Measured]),
    )


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open everything that the settings name; closes it again at the end.

    The schema is not touched.

    Raises:
        ConfigurationError: A setting is wrong, or names what cannot be opened.
    """
    failpoints.arm(settings.fleek_failpoints)
    shift_from(settings.fleek_clock_file)
    for old, new in renamed_in_use().items():
        log.warning("setting_renamed", old=old, new=new, advice="the next release ignores the old")
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(open_database(settings.database_url))
        imported = {name: open_provider(name) for name in settings.providers}  # before any opens
        opening_storage, opening_dispatcher = open_storage(settings), open_dispatcher(settings)
        log.info("providers_chosen", providers=settings.providers, reason=settings.provider_reason)
        storage = await stack.enter_async_context(opening_storage)
        dispatcher = await stack.enter_async_context(opening_dispatcher)
        metrics = Metrics()
        if isinstance(dispatcher, Measured):
            metrics.show(dispatcher.figures)
        capacity, clock = StorageCapacity(storage), Clock(db)
        stack.push_async_callback(capacity.close)
        providers = {
            name: await stack.enter_async_context(opening) for name, opening in imported.items()
        }
        cancels = CancelRequests()
        stack.push_async_callback(cancels.tasks.finish, seconds=LAST_CANCELS_SECONDS)
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
            cancels=cancels,
            lease=WorkerLease(
                db,
                heartbeat=settings.heartbeat_seconds,
                slots=settings.worker_concurrency,
                now=clock,
            ),
        )
