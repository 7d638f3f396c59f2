"""Several keys of one provider: each attempt has one of them, for whatever is asked about it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from backing_services import both_databases
from fakes import AwaitingProvider, Clock, FakeProvider, TakingProvider, a_request
from fleek.domain.errors import (
    CallbackRejected,
    OutcomeUnknown,
    OutputMissing,
    ProviderUnavailable,
)
from fleek.domain.job import Job, JobId, Stage, Status
from fleek.engine.accounts import accounts_of
from fleek.engine.backlog import RetrySchedule
from fleek.engine.callback import receive
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.provider_limits import AccountTurns, PauseCache
from fleek.engine.reconcile import Reconciliation
from fleek.engine.runtime import Runtime
from fleek.engine.start import intend, record_unknown, start
from fleek.engine.submit import submit
from fleek.engine.throttle import RateLimiter, refresh_pauses
from fleek.engine.watch import Watch
from fleek.providers.accounts import account_name
from fleek.providers.base import (
    PAYMENT_REQUIRED,
    RATE_LIMITED,
    UNAUTHORIZED,
    Budget,
    Callback,
    Provider,
)
from fleek.store import attempts, jobs, provider_health

LIMITED = ProviderUnavailable("slow down", code=RATE_LIMITED, retry_after=timedelta(minutes=1))
UNPAID = ProviderUnavailable("no credit", code=PAYMENT_REQUIRED)
REVOKED = ProviderUnavailable("no such token", code=UNAUTHORIZED)


@dataclass
class AccountProvider(TakingProvider):
    """A fake account that takes files, and has others beside it."""

    accounts: dict[str, Provider] = field(default_factory=dict)


@pytest.fixture
def both(rt: Runtime) -> Sequence[AccountProvider]:
    """Give the runtime's provider two accounts, `a` and `b`."""
    return give_accounts(rt, AccountProvider(), AccountProvider())


def give_accounts(rt: Runtime, *accounts: Any) -> Sequence[Any]:
    """Let the provider have these accounts, named `a`, `b` and so on."""
    accounts[0].accounts = dict(zip("abc", accounts, strict=False))
    rt.providers[rt.settings.provider] = accounts[0]  # type: ignore[index]  # a dictionary, in the tests
    return accounts


async def started(rt: Runtime, number: int = 1, **fields: Any) -> list[Job]:
    """Submit jobs and start each once; returns them."""
    made = []
    for index in range(number):
        job = await submit(rt, a_request(f"cat {index}", **fields))
        await start(rt, job.id)
        made.append(await jobs.get_any_tenant(rt.db, job.id))
    return made


async def accounts_used(rt: Runtime, job_id: JobId) -> list[str | None]:
    """Return the account of each attempt of a job."""
    return [attempt.account for attempt in await attempts.of_job(rt.db, job_id)]


def reconciliation(rt: Runtime) -> Reconciliation:
    """Return the reconciliation of the provider's attempts."""

    async def nothing(*_: Any) -> Any:
        return []

    return Reconciliation(rt, "placeholder", RetrySchedule(nothing, nothing, clock=rt.steady))


async def test_attempts_take_turns(rt: Runtime, both: Sequence[AccountProvider]) -> None:
    """Each account gets its share, so that their limits add up."""
    made = await started(rt, 6)

    assert [len(account.started) for account in both] == [3, 3]
    used = Counter([(await accounts_used(rt, job.id))[0] for job in made])
    assert used == {"a": 3, "b": 3}


@pytest.mark.parametrize("refusal", [UNPAID, REVOKED, LIMITED], ids=["402", "401", "429"])
async def test_an_account_is_paused_by_itself(
    rt: Runtime, both: Sequence[AccountProvider], refusal: ProviderUnavailable, clock: Clock
) -> None:
    """The others go on, and a job that met the paused one is started by another."""
    both[0].starts = [refusal]

    (job,) = await started(rt)
    await later(rt, clock, minutes=0.5)
    await start(rt, job.id)
    await started(rt, 3)

    assert await accounts_used(rt, job.id) == ["a", "b"]
    assert [len(account.started) for account in both] == [1, 4]
    (health,) = await provider_health.impaired(rt.db, now=clock())
    assert (health.provider, health.reason) == ("placeholder#a", refusal.code)
    assert not rt.pauses.is_paused("placeholder", job.model, now=clock())


async def test_a_provider_is_paused_with_all_its_accounts(
    rt: Runtime, both: Sequence[AccountProvider], clock: Clock
) -> None:
    """Then jobs wait, in every process, until the first pause is over."""
    for account in both:
        account.starts = [LIMITED]
    await started(rt, 2)
    other = replace(rt, pauses=PauseCache())

    await refresh_pauses(other)

    assert rt.pauses.is_paused("placeholder", "fake/model", now=clock())
    assert other.pauses.is_paused("placeholder", "fake/model", now=clock())
    clock.tick(minutes=1.1)
    assert not other.pauses.is_paused("placeholder", "fake/model", now=clock())


async def test_a_refused_account_gets_one_attempt_at_a_time(
    rt: Runtime, both: Sequence[AccountProvider], clock: Clock
) -> None:
    """The operator may have paid: one attempt finds out, and the others do not wait for it."""
    rt = replace(rt, turns=AccountTurns(clock.steady))
    both[0].starts = [UNPAID, UNPAID]
    await started(rt, 2)
    await later(rt, clock, minutes=6)

    await started(rt, 4)
    tried = len(both[0].started)
    await later(rt, clock, minutes=6)
    await started(rt, 5)

    assert tried == 2
    assert len(both[0].started) - tried > 1
    assert await provider_health.impaired(rt.db, now=clock()) == []


async def later(rt: Runtime, clock: Clock, **parts: float) -> None:
    """Let time pass, for a worker that is alive."""
    clock.tick(**parts)
    await rt.lease.beat()


async def test_limits_of_accounts_add_up(rt: Runtime, clock: Clock) -> None:
    """A paused account's share is not given to the others."""
    a, _ = give_accounts(
        rt,
        AccountProvider(budget=Budget(creates_per_minute=61, concurrency=2)),
        AccountProvider(budget=Budget(creates_per_minute=61, concurrency=2)),
    )
    limiter = RateLimiter(rt, clock=clock.steady)
    due: Any = [await submit(rt, a_request(str(n))) for n in range(4)]
    await limiter.refresh(rt.db)
    clock.tick(seconds=1)

    both_open = [limiter.allows(job) for job in due]
    a.starts = [LIMITED]
    await started(rt)
    clock.tick(seconds=1)
    await limiter.refresh(rt.db)
    clock.tick(seconds=0.5)
    one_open = [limiter.allows(job) for job in due]

    assert sum(both_open) == 2
    assert sum(one_open) == 1


@both_databases
async def test_a_prediction_belongs_to_its_account(
    rt: Runtime, both: Sequence[AccountProvider], clock: Clock
) -> None:
    """It is polled, cancelled and collected by the key that made it, in whatever order keys are listed."""
    done, unwanted = await started(rt, 2)
    a, b = both
    b.accounts = {"b": b, "a": a}
    rt.providers["placeholder"] = b  # type: ignore[index]
    b.outcome = None
    await cancel(rt, unwanted.id, tenant_id=unwanted.tenant_id)
    await rt.cancels.tasks.finish(seconds=10)
    clock.tick(seconds=5)

    await Watch(rt, clock=clock.steady).turn()
    await collect(rt, done.id)

    assert a.polled == [done.prediction_id]
    assert b.cancelled == [unwanted.prediction_id]
    assert a.cancelled == []
    assert set(b.polled) <= {unwanted.prediction_id}
    assert (await jobs.get_any_tenant(rt.db, done.id)).status is Status.COMPLETED


@pytest.mark.parametrize("way", ["repeat", "find"])
async def test_an_unknown_outcome_is_reconciled_with_its_account(rt: Runtime, way: Any) -> None:
    """A crash after the intent: only that account can have been paid."""
    a, b = give_accounts(rt, AccountProvider(reconcile_by=way), AccountProvider(reconcile_by=way))
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    _, attempt = intended
    owner, other = (a, b) if attempt.account == "a" else (b, a)
    await owner.start(job, attempt)
    await record_unknown(rt, attempt, OutcomeUnknown("the response is lost"))

    await reconciliation(rt).reconcile(attempt)

    assert other.started == []
    bound = await attempts.get(rt.db, attempt.id)
    assert bound is not None
    assert bound.prediction_id in owner.created


async def test_without_its_key_nothing_is_started_again(
    rt: Runtime, both: Sequence[AccountProvider]
) -> None:
    """That the other accounts know of no prediction proves nothing."""
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    a, b = both
    rt.providers["placeholder"] = b  # type: ignore[index]
    b.accounts = {"b": b, "c": AccountProvider()}
    b.reconcile_by = "find"
    await rt.lease.end()

    for _ in range(5):
        await reconciliation(rt).reconcile(intended[1])

    attempt = await attempts.get(rt.db, intended[1].id)
    assert attempt is not None
    assert attempt.verdict is None
    assert [len(account.started) for account in (a, b)] == [0, 0]


async def test_a_replaced_key_of_the_same_account_goes_on(
    rt: Runtime, both: Sequence[AccountProvider], clock: Clock
) -> None:
    """A key that was revoked leaves predictions behind: they are found at the account that has them."""
    (job,) = await started(rt)
    a, b = both
    successor = AccountProvider(created=a.created)
    b.poll_error = UNPAID
    b.accounts = {"b": b, "c": successor}
    b.created = a.created
    b.reads = [OutputMissing("this account has no such file")]
    rt.providers["placeholder"] = b  # type: ignore[index]
    clock.tick(seconds=5)

    await Watch(rt, clock=clock.steady).turn()
    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


@dataclass
class SigningProvider(FakeProvider):
    """An account with its own signature."""

    accounts: dict[str, Provider] = field(default_factory=dict)
    signature: str = "fake"
    verified: int = 0

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Accept what this account has signed."""
        read = await super().callback({**headers, "webhook-signature": "fake"}, body)
        if headers["webhook-signature"] != self.signature:
            raise CallbackRejected("this is signed by another account")
        self.verified += 1
        return read


async def test_a_callback_is_verified_with_the_secret_of_its_account(rt: Runtime) -> None:
    """Each account signs with a secret of its own."""
    a, b = give_accounts(rt, SigningProvider(signature="A"), SigningProvider(signature="B"))
    await started(rt)
    (job,) = await started(rt)
    attempt = (await attempts.of_job(rt.db, job.id))[0]
    assert attempt.account == "b"

    async def body() -> bytes:
        return str(attempt.prediction_id).encode()

    token = f"{attempt.id}.{attempt.nonce}"
    headers = {"webhook-id": "1", "webhook-signature": "B"}
    await receive(rt, "placeholder", token, headers=headers, read=body)

    assert (a.verified, b.verified) == (0, 1)
    assert a.polled == []
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_inputs_are_handed_to_the_account_that_starts(
    rt: Runtime, both: Sequence[AccountProvider]
) -> None:
    """A file that one account was sent cannot be read by another one."""
    uri = "data:image/png;base64,iVBORw0KGgo="
    for account in both:
        account.inline = False

    await started(rt, 4, parameters={"image": uri})

    assert [len(account.taken) for account in both] == [2, 2]
    assert [len(account.started) for account in both] == [2, 2]


async def test_awaited_callbacks_are_those_of_the_account(rt: Runtime, clock: Clock) -> None:
    """A provider without a search, like fal: the attempt is written off when its callback is overdue."""

    @dataclass
    class Awaiting(AwaitingProvider):
        accounts: dict[str, Provider] = field(default_factory=dict)

    give_accounts(rt, Awaiting(), Awaiting())
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    clock.tick(hours=1)

    await reconciliation(rt).reconcile(intended[1])

    assert (await jobs.get_any_tenant(rt.db, job.id)).error is not None


def test_a_name_reveals_no_key(rt: Runtime) -> None:
    """The database, logs and the doctor show a part of a hash."""
    name = account_name("r8_" + "k" * 37)

    assert len(name) == 8
    assert name != account_name("r8_" + "l" * 37)
    assert [account.key for account in accounts_of(rt, "placeholder")] == ["placeholder"]
