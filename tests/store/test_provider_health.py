"""Results of starts: failures are counted in a row, and reset by the first success."""

import asyncio
from datetime import timedelta

from fleek.domain.job import ModelName
from fleek.store import provider_health
from fleek.store.database import Database
from fleek.store.provider_health import ALL_MODELS, FORGOTTEN, ProviderHealth
from samples import NOON, SECOND

MODEL = ModelName("fake/model")


def after_two(failures: int) -> timedelta | None:
    """Pause for a second from the second failure on."""
    return SECOND if failures >= 2 else None


async def failed(db: Database, *, at: int = 0, model: str = MODEL) -> ProviderHealth | None:
    """Record a failure, some seconds after noon."""
    return await provider_health.fail(
        db,
        "fake",
        model,
        reason="provider_unreachable",
        pauses=after_two,
        now=NOON + SECOND * at,
    )


async def paused(db: Database, seconds: int, *, trial: bool = True) -> ProviderHealth | None:
    """Pause the account at noon for some seconds."""
    until = NOON + SECOND * seconds
    return await provider_health.pause(
        db, "fake", until=until, reason="broke", trial=trial, now=NOON
    )


async def test_providers_without_rows_are_healthy(db: Database) -> None:
    """A healthy service writes nothing here."""
    assert await provider_health.impaired(db, now=NOON) == []
    assert not await provider_health.clear(db, "fake", MODEL, now=NOON)


async def test_failures_in_a_row_lead_to_a_pause(db: Database) -> None:
    """The row contains the start, the number and the reason."""
    first, second = await failed(db), await failed(db)

    assert first is not None
    assert (first.failures, first.paused_until) == (1, None)
    assert second is not None
    assert (second.failures, second.paused_until) == (2, NOON + SECOND)
    assert await provider_health.impaired(db, now=NOON) == [second]
    assert second.reason == "provider_unreachable"


async def test_concurrent_failures_are_all_counted(db: Database) -> None:
    """Only the one that starts the pause reports it."""
    found = await asyncio.gather(*(failed(db) for _ in range(6)))

    assert sorted(one.failures for one in found if one is not None) == [1, 2]


async def test_a_failure_after_the_pause_continues_the_count(db: Database) -> None:
    """So the next pause can be longer."""
    for _ in range(2):
        await failed(db)

    third = await failed(db, at=2)

    assert third is not None
    assert third.failures == 3
    assert third.paused_until == NOON + SECOND * 3


async def test_a_success_resets_failures(db: Database) -> None:
    """Those of the model and of the account, and of no other model."""
    await failed(db)
    await failed(db, model="other/model")

    cleared = await provider_health.clear(db, "fake", MODEL, now=NOON)

    assert cleared
    assert [one.model for one in await provider_health.impaired(db, now=NOON)] == ["other/model"]


async def test_a_success_ends_the_pause_of_its_model(db: Database) -> None:
    """Of simultaneous responses, the failures may be recorded first."""
    for _ in range(2):
        await failed(db)

    assert await provider_health.clear(db, "fake", MODEL, now=NOON)
    assert await provider_health.impaired(db, now=NOON) == []


async def test_a_success_does_not_end_the_pause_of_an_account(db: Database) -> None:
    """Its prediction was created before the pause began."""
    await paused(db, 60)

    early = await provider_health.clear(db, "fake", MODEL, now=NOON + SECOND * 59)
    late = await provider_health.clear(db, "fake", MODEL, now=NOON + SECOND * 60)

    assert (early, late) == (False, True)


async def test_the_longer_pause_counts(db: Database) -> None:
    """Two workers may receive different values of Retry-After."""
    first, shorter, longer = [await paused(db, seconds) for seconds in (60, 5, 90)]

    assert shorter is None
    assert (first and first.failures, longer and longer.failures) == (1, 2)
    (account,) = await provider_health.impaired(db, now=NOON)
    assert account == longer
    assert account.model == ALL_MODELS


async def test_a_pause_without_a_trial_ends_by_itself(db: Database) -> None:
    """No write is needed."""
    await paused(db, 5, trial=False)

    assert len(await provider_health.impaired(db, now=NOON)) == 1
    assert await provider_health.impaired(db, now=NOON + SECOND * 5) == []


async def test_a_pause_with_a_trial_lasts_until_the_trial_succeeds(db: Database) -> None:
    """First nothing may be started, then one prediction."""
    account = await paused(db, 5)
    assert account is not None

    during, after = NOON + SECOND * 4, NOON + SECOND * 5

    assert (account.paused(during), account.on_trial(during)) == (True, False)
    assert (account.paused(after), account.on_trial(after)) == (False, True)
    assert await provider_health.impaired(db, now=after) == [account]


async def test_old_failures_are_removed(db: Database) -> None:
    """Five failures in a year are not five in a row, and the number of models is unlimited."""
    await failed(db)
    later = int(FORGOTTEN / SECOND) + 1

    assert await provider_health.impaired(db, now=NOON + SECOND * later) == []
    again = await failed(db, at=later)
    assert again is not None
    assert again.failures == 1
