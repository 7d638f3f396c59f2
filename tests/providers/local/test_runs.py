"""Runs of the local voice: in a process of their own, which may hang, die or be killed."""

import asyncio
import sys
from typing import Any

import pytest

from fleek.domain.attempt import Attempt
from fleek.domain.data_uri import decode
from fleek.domain.errors import ConfigurationError, ProviderRejected
from fleek.domain.job import Job, PredictionId
from fleek.domain.text import pieces_of
from fleek.providers.base import Failed, Prediction, Succeeded
from fleek.providers.local import connect
from fleek.providers.local.processes import Processes
from fleek.providers.local.provider import CANCELLED, LOST, SILENT, LocalProvider
from providers.local.conftest import PROGRAM, a_job, an_attempt


async def ended(provider: LocalProvider, key: PredictionId) -> Prediction:
    """Return a run when it has ended."""
    task = provider._runs[key].task
    assert task is not None
    await asyncio.wait([task])
    return (await provider.poll([key]))[key]


async def spoken(provider: LocalProvider, job: Job, attempt: Attempt | None = None) -> list[str]:
    """Return the words of the program's response: process, seed, speed, text."""
    started = await provider.start(job, attempt or an_attempt(job))
    outcome = (await ended(provider, started.id)).outcome
    assert isinstance(outcome, Succeeded)
    (output,) = outcome.outputs
    assert output.uri is not None
    return b"".join(decode(pieces_of(output.uri))).decode().removeprefix("RIFF").split()


async def until_running(processes: Processes) -> asyncio.subprocess.Process:
    """Return the process that speaks."""
    async with asyncio.timeout(30):
        while not processes.running:
            await asyncio.sleep(0.01)
    return next(iter(processes.running))


async def test_texts_share_a_process(provider: LocalProvider) -> None:
    """Loading the voice takes longer than speaking."""
    first = await spoken(provider, a_job("one", seed=7, speed=0.5))
    second = await spoken(provider, a_job("two"))

    assert first[1:] == ["7", "0.5", "one"]
    assert first[0] == second[0]


async def test_a_repeated_start_is_the_same_run(provider: LocalProvider) -> None:
    """Its seed follows from the attempt."""
    job = a_job("one")
    attempt = an_attempt(job)

    first = await provider.start(job, attempt)
    second = await provider.start(job, attempt)

    assert first.id == second.id
    assert await spoken(provider, job, attempt) == await spoken(provider, job, attempt)
    assert len(provider._runs) == 1


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("silence", SILENT),
        ("error", Failed("prediction_failed", "ValueError: no", retryable=False)),
        ("die", Failed("prediction_failed", "the process that speaks has ended", retryable=True)),
        (
            "babble",
            Failed("prediction_failed", "the process that speaks has ended", retryable=True),
        ),
    ],
)
async def test_a_failure_ends_its_run_only(
    provider: LocalProvider, text: str, failure: Failed
) -> None:
    """The next text is spoken by another process."""
    job = a_job(text)
    started = await provider.start(job, an_attempt(job))

    outcome = (await ended(provider, started.id)).outcome
    after = await spoken(provider, a_job("next"))

    assert outcome == failure
    assert after[-1] == "next"


async def test_a_killed_process_can_be_tried_again(
    provider: LocalProvider, processes: Processes
) -> None:
    """By another attempt, which is free; by the system, when memory is scarce."""
    job = a_job("hang")
    started = await provider.start(job, an_attempt(job))

    (await until_running(processes)).kill()
    outcome = (await ended(provider, started.id)).outcome

    assert isinstance(outcome, Failed)
    assert outcome.retryable


async def test_cancel_kills_the_process(provider: LocalProvider, processes: Processes) -> None:
    """A text that waits is not spoken at all, and the next one is."""
    jobs = [a_job("hang"), a_job("waits")]
    first, second = [(await provider.start(job, an_attempt(job))).id for job in jobs]
    process = await until_running(processes)

    cancelled = [await provider.cancel(key) for key in (second, first)]
    await ended(provider, first)

    assert [one and one.outcome for one in cancelled] == [CANCELLED, CANCELLED]
    assert process.returncode is not None
    assert (await spoken(provider, a_job("next")))[-1] == "next"


async def test_a_text_has_a_time_limit(processes: Processes) -> None:
    """A voice that hangs must not block the others for ever."""
    pool = Processes(1, seconds=0.05, program=(sys.executable, "-I", "-S", str(PROGRAM)))
    provider = LocalProvider(pool, limit=1)
    job = a_job("hang")
    started = await provider.start(job, an_attempt(job))

    outcome = (await ended(provider, started.id)).outcome

    assert outcome == Failed(
        "prediction_failed", "the text was not spoken within 0.05 seconds", retryable=False
    )
    assert not pool.running
    assert not processes.running


async def test_closing_ends_all_processes(provider: LocalProvider, processes: Processes) -> None:
    """Those that work, too."""
    job = a_job("hang")
    await provider.start(job, an_attempt(job))
    process = await until_running(processes)

    await provider.close()

    assert process.returncode is not None


async def test_a_run_of_another_process_is_lost(provider: LocalProvider) -> None:
    """It ended with that process, and is repeated for free."""
    theirs, strange = PredictionId("speech-" + "0" * 32), PredictionId("speech-")

    seen = await provider.poll([theirs, strange])
    cancelled = await provider.cancel(theirs)

    assert seen == {theirs: Prediction(id=theirs, outcome=LOST)}
    assert cancelled == Prediction(id=theirs, outcome=LOST)
    assert await provider.cancel(strange) is None


@pytest.mark.parametrize(
    "parameters",
    [{"voice": "emma"}, {"speed": 3}, {"speed": "1"}, {"seed": -1}, {"seed": True}, {"x": 1}],
)
async def test_other_parameters_are_refused(
    provider: LocalProvider, parameters: dict[str, Any]
) -> None:
    """Nothing is started."""
    job = a_job("one", **parameters)

    with pytest.raises(ProviderRejected):
        await provider.start(job, an_attempt(job))


async def test_a_broker_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process starts a run, and another one would poll it."""
    monkeypatch.setenv("DISPATCH", "celery")

    with pytest.raises(ConfigurationError, match="DISPATCH=embedded"):
        async with connect():
            pass
