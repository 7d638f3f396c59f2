"""The open collaborators of a process."""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime
from typing import Final

from fleek.dispatch.base import Dispatcher
from fleek.domain.catalogue import Catalogue
from fleek.domain.job import JobId
from fleek.domain.prices import PriceList
from fleek.domain.values import dataclass
from fleek.engine.access import KeyCache
from fleek.engine.capacity import StorageCapacity
from fleek.engine.clock import Clock
from fleek.engine.dispatches import ClaimedCollect, Dispatches, OwnShare
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.loops import Links, ShieldedTasks, Wakeups
from fleek.engine.moderation import Moderator
from fleek.engine.provenance import Signer
from fleek.engine.provider_limits import AccountTurns, CancelRequests, PauseCache, TokenBucket
from fleek.engine.signing import SecretBox
from fleek.engine.tenants import TenantCache
from fleek.engine.thumbnails import Thumbnails
from fleek.input_schema.compiled import Validators
from fleek.outbound.client import Client
from fleek.providers.base import Provider
from fleek.settings import Settings
from fleek.storage.base import Storage
from fleek.store.attempts import Waiting
from fleek.store.database import Database
from fleek.store.owed import Presenter
from fleek.system_clock import Steady, steady_seconds
from fleek.telemetry import Metrics

MOST_BOUND: Final = (
    1000  # kept for a coordinator in this process; the others it finds by its looks
)


def _bound() -> dict[str, deque[Waiting]]:
    return defaultdict(lambda: deque(maxlen=MOST_BOUND))


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The open collaborators of one process. Every verb takes it first."""

    settings: Settings
    db: Database
    providers: Mapping[str, Provider]
    storage: Storage
    dispatcher: Dispatcher
    now: Callable[[], datetime]  # aware, UTC; the same for all processes on this database
    clock: Clock  # makes it so: it is set at the start and with each heartbeat
    lease: WorkerLease
    capacity: StorageCapacity
    presenter: Presenter  # of events, for webhooks
    webhooks: Client  # sends them
    inputs: Client  # fetches media inputs
    moderator: Moderator | None = None  # is asked before each start
    signer: Signer | None = None  # of outputs
    prices: PriceList = field(default_factory=PriceList)
    catalogue: Catalogue = field(default_factory=Catalogue)
    secret_box: SecretBox = field(default_factory=SecretBox)
    keys: KeyCache = field(default_factory=KeyCache)
    tenants: TenantCache = field(default_factory=TenantCache)
    validators: Validators = field(default_factory=Validators)
    metrics: Metrics = field(default_factory=Metrics)
    wakeups: Wakeups = field(default_factory=Wakeups)
    links: Links = field(default_factory=Links)
    bound: dict[str, deque[Waiting]] = field(default_factory=_bound)  # here, by provider
    shielded: ShieldedTasks = field(default_factory=ShieldedTasks)
    thumbnails: Thumbnails = field(default_factory=Thumbnails)
    cancels: CancelRequests = field(default_factory=CancelRequests)
    pauses: PauseCache = field(default_factory=PauseCache)
    collects: Dispatches = field(default_factory=lambda: Dispatches("collect"))
    own_share: OwnShare = field(default_factory=OwnShare)  # of the jobs to be collected
    claimed: dict[JobId, ClaimedCollect] = field(default_factory=dict)  # until their slot begins
    turns: AccountTurns = field(default_factory=AccountTurns)  # of the accounts of providers
    recalls: dict[str, TokenBucket] = field(
        default_factory=dict
    )  # calls of `SupportsRecall.recall`, by provider
    preparing: set[JobId] = field(default_factory=set)  # jobs whose inputs are handed over now
    steady: Steady = steady_seconds  # what pauses and time-outs within this process go by
