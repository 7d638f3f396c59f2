"""What was created for a job after a backup, without a row of any attempt."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from fleek.domain.attempt import Attempt, attempt_id_of
from fleek.domain.job import AttemptId, Job
from fleek.emulator.server import Emulator
from fleek.providers.base import History
from fleek.providers.replicate.provider import ReplicateProvider

CALLBACKS = "https://fleek.example/webhooks/replicate"
NONCE = "0123456789abcdef" * 2


def derived(attempt: Attempt, nonce: str = NONCE) -> dict[str, Any]:
    """Return id and nonce of an attempt as the engine makes them."""
    return {"id": attempt_id_of(attempt.job_id, nonce), "nonce": nonce}


async def asked(provider: ReplicateProvider, job: Job, attempt: Attempt) -> History:
    """Return what was created for a job in the last hour."""
    now = datetime.now(UTC)
    return await provider.history(job, attempt, since=now - timedelta(hours=1), now=now)


def recorded(emulator: Emulator) -> list[str]:
    """Return the ids of the provider's predictions, oldest first."""
    return [one.id for one in emulator.account.predictions]


@pytest.mark.parametrize("removed", [False, True])
async def test_a_prediction_names_its_job_without_its_attempt(
    factory: Any,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    *,
    removed: bool,
) -> None:
    """By its callback address, also if its input was removed; another job's is told from it."""
    provider = factory.open(callback_base=CALLBACKS)
    wanted, equal = job("a cat"), job("a cat")
    for each in (wanted, equal):
        intent = attempt(each)
        await provider.start(each, replace(intent, **derived(intent)))
    if removed:
        emulator.replan(retention_seconds=0)

    history = await asked(provider, wanted, attempt(wanted))

    assert [one.id for one in history.own] == recorded(emulator)[:1]
    assert (history.alike, history.unreadable, history.complete) == ((), (), True)


async def test_without_callbacks_the_request_is_compared(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """The same model with the same input."""
    wanted = job("a cat", seed=1)
    for each in (wanted, job("a cat", seed=2), job("a cat", model="x/y", seed=1), wanted):
        await provider.start(each, attempt(each))

    history = await asked(provider, wanted, attempt(wanted))

    ids = recorded(emulator)
    assert sorted(one.id for one in history.alike) == sorted([ids[0], ids[3]])
    assert (history.own, history.unreadable, history.complete) == ((), (), True)


async def test_a_callback_of_an_earlier_release_tells_nothing(
    factory: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Its id is random, so that the request is compared as without callbacks."""
    provider = factory.open(callback_base=CALLBACKS)
    wanted = job("a cat")
    await provider.start(wanted, replace(attempt(wanted), id=AttemptId(uuid4()), nonce=NONCE))

    history = await asked(provider, wanted, attempt(wanted))

    assert [one.id for one in history.alike] == recorded(emulator)


async def test_predictions_of_other_services_are_not_ours(
    factory: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Their callback addresses have another form."""
    provider = factory.open(callback_base=CALLBACKS)
    wanted = job("a cat")
    await provider.start(wanted, replace(attempt(wanted), nonce="short"))

    history = await asked(provider, wanted, attempt(wanted))

    assert history == History(complete=True)


async def test_a_prediction_whose_input_was_removed_cannot_be_compared(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """It may be that of the job, so the job must not be started."""
    wanted = job("a cat")
    await provider.start(wanted, attempt(wanted))
    emulator.replan(retention_seconds=0)

    history = await asked(provider, wanted, attempt(wanted))

    assert history.unreadable == tuple(recorded(emulator))
