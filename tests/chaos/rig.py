"""A service with short times that uses the emulator, prepared for faults."""

import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2

from chaos import tenants
from chaos.evidence import Evidence, Seen, gather
from chaos.flood import Flood
from chaos.history import Client, History
from chaos.host import HOSTS, Host
from chaos.receiver import Receiver
from chaos.tenants import ADMIN, Tenant, TenantSetup
from fleek.domain.job import DEFAULT_TENANT
from fleek.engine.throttle import circuit_pause
from fleek.schemas.events import PUBLIC
from fleek.store.deliveries import DELIVERING
from service_process import Process, Service

HEARTBEAT: Final = 0.3  # seconds; a lease expires after six
SILENCE: Final = 6 * HEARTBEAT
QUICK: Final = {
    "RECONCILE_SECONDS": "1",
    "RETRY_BACKOFF_BASE": "0.1",
    "RETRY_BACKOFF_MAX": "0.5",
    "MAX_WORKER_CRASHES": "1000",  # intended kills must not fail a job
    "HEARTBEAT_SECONDS": str(HEARTBEAT),
    "SSRF_ALLOW_CIDRS": "127.0.0.0/8",  # for receivers of webhooks
    "WEBHOOK_ALLOW_HTTP": "true",
    **tenants.SETTINGS,
}
PRICE: Final = """
[[price]]
provider = "{}"
model = "*"
prediction = "0.003"
run_second = "{}"
assume = {{ run_second = 1 }}
"""
"""That of the emulator; the run time is often another one than was estimated."""

LAUNCH_SECONDS: Final = 120.0
ANSWER_SECONDS: Final = (
    5.0  # without a response by then the process is frozen, or the machine very busy
)
LOOK_SECONDS: Final = 0.2  # between two checks for an idle service
STILL: Final = 90.0  # seconds without any change or explanation; progress is waited for
LONGEST: Final = 1200.0  # seconds; endless progress is an error, too
OWED: Final = """SELECT
    (SELECT count(*) FROM jobs WHERE status IN ('pending', 'processing')),
    (SELECT count(*) FROM attempts WHERE verdict IS NULL),
    (SELECT count(*) FROM deliveries WHERE state = 'pending')"""
MOVES: Final = """SELECT
    (SELECT sum(version) FROM jobs),
    (SELECT count(*) FROM attempts),
    (SELECT count(prediction_id) FROM attempts),
    (SELECT count(verdict) FROM attempts),
    (SELECT sum(empty_looks) FROM attempts WHERE verdict IS NULL),
    (SELECT sum(attempts) FROM deliveries),
    (SELECT max(failures) FROM accounts)"""


LIVE: Final = (
    "SELECT tenant_id, count(*) FROM jobs WHERE status IN ('pending', 'processing')"
    " GROUP BY tenant_id"
)
LINES: Final = ", ".join(f"'{line}'" for line in PUBLIC)
PUBLIC_EVENTS: Final = (
    "SELECT count(*) FROM events JOIN jobs ON jobs.id = events.job_id"  # noqa: S608 - constants
    f" WHERE events.type IN ({LINES})"
)
LOCKED: Final = f"SELECT pg_advisory_xact_lock({DELIVERING}); "  # as deliveries are, in turn
HURRY: Final = (  # not to when they were written: a clock that was wrong may have been ahead
    "UPDATE deliveries SET next_at = '2001-01-01 00:00:00.000000' WHERE state = 'pending'"
)
HURRY_SECONDS: Final = 2.0  # for deliveries in progress
FOLLOWED_SECONDS: Final = 60.0  # for events that followers have not received yet


class Rig(Service):
    """A service on the emulator, with a history of what its clients saw."""

    def __init__(self, folder: Path, host: Host, **settings: str) -> None:
        super().__init__(folder, **{**host.settings(), **QUICK, **settings})
        self.host = host
        prices = folder / "prices.toml"
        prices.write_text("".join(PRICE.format(name, host.per_second) for name in HOSTS))
        self.env["PRICES_FILE"] = str(prices)
        self.env["PUBLIC_URL"] = f"http://127.0.0.1:{self.port}"
        if code := os.environ.get("PYTHONPATH"):  # noqa: TID251 - a child's environment
            self.env["PYTHONPATH"] = code  # for another version of the code
        self.http.headers["X-API-Key"] = ADMIN
        self.history = History(folder / "history.jsonl")
        self.receiver = Receiver(seed=host.port)
        self.secrets: dict[str, Sequence[str]] = {}  # of the receiver, by path
        self.crowded: Counter[str] = Counter()  # the highest number of unfinished jobs per tenant
        self.flood: Flood | None = None
        self._tenants: dict[str, Tenant] = {}
        self._making = threading.Lock()

    def tenant(self, name: str) -> Tenant:
        """Return a tenant that is ready for callers, with an endpoint and a follower.

        Raises:
            AssertionError: It could not be created.
        """
        with self._making:
            if name not in self._tenants:
                self._tenants[name] = TenantSetup(self, name, self.receiver.url(name)).made()
                self.secrets[name] = self._tenants[name].secrets
            return self._tenants[name]

    def client(self, number: int, tenant: str = DEFAULT_TENANT) -> Client:
        """Return a caller of a tenant; the default tenant's one has the operator's key."""
        key = ADMIN if tenant == DEFAULT_TENANT else self.tenant(tenant).key
        return Client(self, self.history, number, tenant=tenant, key=key)

    def launch(self, *options: str, **env: str) -> Process:
        """Start ``fleek serve``, and wait until it responds, or a failpoint has ended or frozen it.

        Raises:
            AssertionError: Neither has happened; with its log.
        """
        process = self.start("serve", *options, **env)
        assert process.popen.stdout is not None
        deadline = time.monotonic() + LAUNCH_SECONDS
        seen = b""
        while b"is ready" not in seen:
            assert time.monotonic() < deadline, process.tail()
            readable, _, _ = select.select([process.popen.stdout], [], [], LOOK_SECONDS)
            chunk = os.read(process.popen.stdout.fileno(), 65536) if readable else b""
            seen += chunk
            ended = readable and not chunk
            if ended:
                process.popen.wait(LAUNCH_SECONDS)
            if ended or state(process) == "T":
                assert "failpoint" in process.tail(), process.tail()
                break
        return process

    def answers(self) -> bool:
        """Whether the API responds."""
        try:
            return self.http.get("/livez", timeout=ANSWER_SECONDS).status_code == 200
        except httpx2.HTTPError:
            return False

    def is_ready(self, process: Process) -> bool:
        """Whether a process has finished starting: it works, or its API responds."""
        works = "--no-worker" in process.command or "worker_registered" in process.log.read_text()
        return works and (process.command[0] == "worker" or self.answers())

    def revive(self) -> bool:
        """Start the service again if it has ended, like a supervisor.

        Returns whether it responds.
        """
        served = [one for one in self.processes if one.command[0] == "serve"]
        if served[-1].popen.poll() is not None:
            self.launch()
        return self.answers()

    def quiesce(
        self, *, meanwhile: Callable[[], object] = lambda: None, still: float = STILL
    ) -> None:
        """Wait until every job has ended and no delivery is pending, as long as anything changes.

        If only webhooks are left, they are sent at once: their pauses and leases take minutes.

        The pause of a failing model is waited for, too. `meanwhile` is called at each check.
        `still`: the seconds without any change after which the wait has failed.

        Raises:
            AssertionError: Work is left and nothing changes, or it changes for ever; with the logs.
        """
        begun = changed = hurried = time.monotonic()
        before: tuple[int, ...] = ()
        while any(owed := self.rows(OWED)[0]):
            meanwhile()
            if not any(owed[:-1]) and time.monotonic() - hurried > HURRY_SECONDS:
                self.change(LOCKED + HURRY if "DATABASE_URL" in self.env else HURRY)
                hurried = time.monotonic()
            now, moves = time.monotonic(), self.rows(MOVES)[0]
            if moves != before:
                before, changed = moves, now
            rest = circuit_pause(moves[-1] or 0)
            patience = still + (0 if rest is None else rest.total_seconds())
            pending = f"(jobs, attempts, deliveries) that have not ended: {owed}"
            assert now - changed < patience, f"nothing changes; {pending}\n{self.tails()}"
            assert now - begun < LONGEST, f"it never ends; {pending}\n{self.tails()}"
            time.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Record the number of unfinished jobs of each tenant."""
        for tenant_id, number in self.rows(LIVE):
            self.crowded[tenant_id] = max(self.crowded[tenant_id], number)

    def evidence(self) -> Evidence:
        """Read all evidence when followers have received everything, or nothing more arrives."""
        for name, tenant in self._tenants.items():
            ((number,),) = self.rows(f"{PUBLIC_EVENTS} AND jobs.tenant_id = '{name}'")
            deadline = time.monotonic() + FOLLOWED_SECONDS
            while len(tenant.follower.events) < number and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
        seen = Seen(
            history=self.history.rows,
            received=self.receiver.received,
            secrets=self.secrets,
            followed={name: tenant.follower.events for name, tenant in self._tenants.items()},
            crowded=self.crowded,
            flood=() if self.flood is None else self.flood.answered,
            resumed=sum(tenant.follower.resumed for tenant in self._tenants.values()),
        )
        return gather(self, self.host, seen)

    def close(self) -> None:
        """End all processes started here; the emulator keeps running."""
        for tenant in self._tenants.values():
            tenant.follower.stop()
        self.receiver.close()
        for process in self.processes:
            if process.popen.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
        super().close()
        self.history.close()


def state(process: Process) -> str:
    """Return the process state of the system: T if it is stopped."""
    stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0]


@contextmanager
def rigged(folder: Path, host: Host, **settings: str) -> Generator[Rig]:
    """Yield a rig whose processes end with the block."""
    rig = Rig(folder, host, **settings)
    try:
        yield rig
    finally:
        rig.close()
