"""Opening of the run-time's collaborators from the settings."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from ipaddress import ip_network
from typing import Final, NamedTuple

import structlog

from fleek import failpoints, registry, tracing
from fleek.catalogue import read_catalogue
from fleek.dispatch.base import Dispatcher, Measured
from fleek.engine import media_links
from fleek.engine.access import KeyCache
from fleek.engine.capacity import StorageCapacity
from fleek.engine.clock import Clock
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.moderation import Moderator
from fleek.engine.prices import load_prices
from fleek.engine.provenance import Signer
from fleek.engine.provider_limits import CancelRequests
from fleek.engine.runtime import Runtime
from fleek.engine.signing import SecretBox
from fleek.engine.thumbnails import Thumbnails
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.providers.base import Provider, provider_misfits
from fleek.registry import misfits
from fleek.schemas import Addresses
from fleek.schemas.events import EventPresenter
from fleek.settings import Settings, renamed_in_use
from fleek.storage.base import Storage
from fleek.store.database import Database, open_database
from fleek.system_clock import shift_from
from fleek.telemetry import Metrics

LAST_USES_SECONDS: Final = 1.0  # to store the use of keys when the process ends
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
    _prepare(settings)
    prices = load_prices(settings.prices_file)
    catalogue = read_catalogue(settings.models_file, settings.model_aliases)
    async with AsyncExitStack() as stack:
        _export_traces(stack, settings)
        db = await stack.enter_async_context(open_database(settings.database_url))
        adapters = await _open_adapters(stack, settings)
        metrics, clock = Metrics(), Clock(db)
        if isinstance(adapters.dispatcher, Measured):
            metrics.show(adapters.dispatcher.figures)
        capacity, cancels, keys = StorageCapacity(adapters.storage), CancelRequests(), KeyCache()
        thumbnails = Thumbnails()
        webhooks, inputs = Client(webhook_policy(settings)), Client(input_policy(settings))
        moderator = _moderator(settings, stack)
        for client in (webhooks, inputs):
            stack.push_async_callback(client.close)
        for part in (capacity, thumbnails):
            stack.push_async_callback(part.close)
        stack.push_async_callback(keys.tasks.finish, seconds=LAST_USES_SECONDS)
        stack.push_async_callback(cancels.tasks.finish, seconds=LAST_CANCELS_SECONDS)
        yield Runtime(
            settings=settings,
            db=db,
            providers=adapters.providers,
            storage=adapters.storage,
            dispatcher=adapters.dispatcher,
            now=clock,
            clock=clock,
            capacity=capacity,
            presenter=EventPresenter(_addresses(settings, keys, clock), registry.webhook_form),
            webhooks=webhooks,
            inputs=inputs,
            moderator=moderator,
            signer=_signer(settings),
            prices=prices,
            catalogue=catalogue,
            secret_box=SecretBox(settings.master_keys),
            keys=keys,
            metrics=metrics,
            cancels=cancels,
            thumbnails=thumbnails,
            lease=_lease(settings, db, clock),
        )


def _export_traces(stack: AsyncExitStack, settings: Settings) -> None:
    """Export traces until the stack closes, if there is a collector."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is not None:
        end = tracing.export_to(endpoint, service=settings.otel_service_name)
        stack.push_async_callback(asyncio.to_thread, end)


def _lease(settings: Settings, db: Database, clock: Clock) -> WorkerLease:
    """Return the lease of this process, in case that it becomes a worker."""
    heartbeat, slots = settings.heartbeat_seconds, settings.worker_concurrency
    return WorkerLease(db, heartbeat=heartbeat, slots=slots, now=clock)


def _addresses(settings: Settings, keys: KeyCache, now: Callable[[], datetime]) -> Addresses:
    """Return the addresses in webhooks; those of files are signed once callers need keys."""

    def signed(name: str) -> str:
        return media_links.query(keys.media_secret, name, now=now())

    return Addresses(settings.public_base, settings.media_base, signed)


def webhook_policy(settings: Settings) -> Policy:
    """Return which addresses webhooks may be sent to."""
    networks = tuple(ip_network(network, strict=False) for network in settings.ssrf_allow_cidrs)
    if networks:
        log.warning("private_receivers_allowed", networks=settings.ssrf_allow_cidrs)
    plain = settings.webhook_allow_http
    return Policy(setting="SSRF_ALLOW_CIDRS", networks=networks, plain=plain)


def _moderator(settings: Settings, stack: AsyncExitStack) -> Moderator | None:
    """Open the client of the moderation service, if there is one."""
    url, token = settings.moderation_url, settings.moderation_token
    if url is None:
        return None
    headers = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}
    client = Client(Policy(patterns=(), named=(AllowedHost.of(url),)), headers=headers)
    stack.push_async_callback(client.close)
    return Moderator(
        client,
        url,
        seconds=settings.moderation_seconds.total_seconds(),
        fails_open=settings.moderation_fails == "open",
        outputs=settings.moderation_outputs,
    )


def _signer(settings: Settings) -> Signer | None:
    """Return what signs outputs, if it is configured."""
    certificates, key = settings.c2pa_certificates, settings.c2pa_private_key
    if certificates is None or key is None:
        return None
    from fleek.engine.certificates import open_signer  # noqa: PLC0415 - heavy

    return open_signer(
        certificates,
        key,
        seconds=settings.c2pa_seconds.total_seconds(),
        fails_open=settings.c2pa_fails == "open",
    )


def input_policy(settings: Settings) -> Policy:
    """Return which addresses media inputs may be fetched from."""
    networks = tuple(ip_network(network, strict=False) for network in settings.ssrf_allow_cidrs)
    return Policy(setting="SSRF_ALLOW_CIDRS", networks=networks)


def _prepare(settings: Settings) -> None:
    """Set what belongs to the whole process, and warn of old names of settings."""
    failpoints.arm(settings.fleek_failpoints)
    shift_from(settings.fleek_clock_file)
    for old, new in renamed_in_use().items():
        log.warning("setting_renamed", old=old, new=new, advice="the next release ignores the old")


class _Adapters(NamedTuple):
    """The open adapters that the settings name."""

    providers: Mapping[str, Provider]
    storage: Storage
    dispatcher: Dispatcher


async def _open_adapters(stack: AsyncExitStack, settings: Settings) -> _Adapters:
    """Import all adapters, so that a wrong name is found before any is opened, and open them."""
    providers = {name: open_provider(name) for name in settings.providers}
    storage, dispatcher = open_storage(settings), open_dispatcher(settings)
    log.info("providers_chosen", providers=settings.providers, reason=settings.provider_reason)
    return _Adapters(
        storage=await stack.enter_async_context(storage),
        dispatcher=await stack.enter_async_context(dispatcher),
        providers={
            name: await stack.enter_async_context(opening) for name, opening in providers.items()
        },
    )
