"""Videos: jobs of OpenAI, vLLM-Omni and SGLang-Diffusion, whose responses differ."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleek.domain.errors import OutcomeUnknown, ProviderUnavailable
from fleek.domain.job import Job
from fleek.emulator.media import render
from fleek.emulator.server import Emulator
from fleek.providers.base import Failed, Found, Succeeded
from fleek.providers.openai.provider import GONE_SECONDS, OpenAIProvider
from fleek.providers.openai.wire import read_video
from providers.openai.conftest import Open, Ticks, a_job, an_attempt, contents, start

SERVERS = ["openai", "vllm", "sglang"]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, emulator: Emulator) -> None:
    """Make the emulator behave like each server."""
    emulator.replan(openai_server=request.param)


def a_video(prompt: str = "a cat", **parameters: Any) -> Job:
    """Return a job for a video."""
    return a_job(prompt, model="sora-2", **parameters)


async def look(provider: OpenAIProvider, video_id: Any) -> Any:
    """Return the polled state of a video, or None."""
    seen = (await provider.poll([video_id])).get(video_id)
    return None if seen is None else seen.outcome


async def search(provider: OpenAIProvider, job: Job, age: float = 1.0) -> Found:
    """Search for the video of an attempt whose intent has this age."""
    now = datetime.now(UTC)
    attempt = an_attempt(job, submitted_at=now - timedelta(seconds=age))
    return await provider.find(job, attempt, now=now)


@pytest.mark.usefixtures("server")
async def test_a_video_is_made_and_read(provider: OpenAIProvider, emulator: Emulator) -> None:
    """Every server gets the same fields, as a form."""
    job = a_video("a cat, 猫\r\n--boundary", seconds=8, size="1280x720")

    video = await start(provider, job)
    outcome = await look(provider, video.id)

    (recorded,) = emulator.account.predictions
    assert recorded.input["prompt"] == job.prompt
    assert (recorded.input["seconds"], recorded.input["size"]) == ("8", "1280x720")
    assert await contents(provider, job, outcome) == [render(f"{recorded.id}/0", "mp4")]


@pytest.mark.usefixtures("server")
async def test_a_failed_video_is_not_a_failed_poll(provider: OpenAIProvider) -> None:
    """vLLM-Omni reports it with a status of 500, the others with 200."""
    video = await start(provider, a_video("a cat [[emu:fail_mid]]"))

    outcome = await look(provider, video.id)

    assert isinstance(outcome, Failed)
    assert outcome.code == "prediction_failed"
    assert "unexpected error" in outcome.message


@pytest.mark.parametrize(
    ("server", "code"),
    [("openai", "content_flagged"), ("sglang", "content_flagged"), ("vllm", "prediction_failed")],
)
async def test_a_refused_video_is_not_retried(
    open_openai: Open, emulator: Emulator, server: str, code: str
) -> None:
    """vLLM-Omni replaces the error's code by the status, 400; a repetition would be refused, too."""
    emulator.replan(openai_server=server)
    provider = open_openai(repeats=True)
    video = await start(provider, a_video("a cat [[emu:nsfw]]"))

    outcome = await look(provider, video.id)

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.retryable) == (code, False)


async def test_a_server_error_is_a_failed_poll(provider: OpenAIProvider) -> None:
    """A 5xx without the job in its body tells nothing about the job."""
    video = await start(provider, a_video("a cat [[emu:get_5xx*1]]"))

    with pytest.raises(ProviderUnavailable):
        await provider.poll([video.id])
    assert isinstance(await look(provider, video.id), Succeeded)


@pytest.mark.usefixtures("server")
async def test_many_videos_are_read_from_the_list(
    provider: OpenAIProvider, emulator: Emulator
) -> None:
    """One request for all of them, also for those that failed."""
    prompts = ["a cat"] * 9 + ["a dog [[emu:fail_mid]]"]
    ids = [(await start(provider, a_video(prompt))).id for prompt in prompts]
    before = len(emulator.ledger.rows("request"))

    seen = await provider.poll(ids)

    assert sum(isinstance(found.outcome, Failed) for found in seen.values()) == 1
    assert seen.keys() == set(ids)
    assert len(emulator.ledger.rows("request")) == before + 1


@pytest.mark.usefixtures("server")
async def test_a_running_video_is_deleted(provider: OpenAIProvider) -> None:
    """SGLang only removes its record; Fleek treats it as ended on every server."""
    video = await start(provider, a_video("a cat [[emu:predict=600]]"))

    cancelled = await provider.cancel(video.id)

    assert cancelled is not None
    assert isinstance(cancelled.outcome, Failed)
    assert await look(provider, video.id) == cancelled.outcome


@pytest.mark.usefixtures("server")
async def test_an_ended_video_keeps_its_content(
    provider: OpenAIProvider, emulator: Emulator
) -> None:
    """Deleting it would discard an output that is paid for."""
    video = await start(provider, a_video())

    ended = await provider.cancel(video.id)

    assert ended is not None
    assert isinstance(ended.outcome, Succeeded)
    assert "DELETE" not in {row["method"] for row in emulator.ledger.rows("request")}


@pytest.mark.parametrize("fault", ["cancel_409", "cancel_5xx", "cancel_then_5xx"])
async def test_an_unconfirmed_deletion_is_repeated(provider: OpenAIProvider, fault: str) -> None:
    """409: vLLM-Omni still stops it."""
    video = await start(provider, a_video(f"a cat [[emu:predict=600]][[emu:{fault}*1]]"))

    with pytest.raises(ProviderUnavailable):
        await provider.cancel(video.id)
    await provider.cancel(video.id)


async def test_a_video_lost_by_the_server_is_gone_after_a_while(
    open_openai: Open, ticks: Ticks
) -> None:
    """A restart of the server empties its memory; a single 404 may be temporary."""
    provider = open_openai(repeats=True)
    video = await start(provider, a_video("a cat [[emu:vanish=0]]"))

    before = await look(provider, video.id)
    ticks.seconds += GONE_SECONDS
    after = await look(provider, video.id)

    assert before is None
    assert isinstance(after, Failed)
    assert (after.code, after.retryable) == ("prediction_gone", True)


@pytest.mark.parametrize("server", ["openai", "vllm"])
async def test_a_lost_video_is_found_by_its_request(
    provider: OpenAIProvider, emulator: Emulator, server: str
) -> None:
    """Videos with another prompt or another size do not match."""
    emulator.replan(openai_server=server)
    lost = a_video("a cat [[emu:create_then_drop]]", size="1280x720")
    for job in (a_video("a dog"), replace(lost, input={"size": "720x1280"}), lost):
        with suppress(OutcomeUnknown):
            await start(provider, job)

    found = await search(provider, lost)

    mine = emulator.account.predictions[-1].id
    assert [candidate.id for candidate in found.candidates] == [mine]
    assert (found.complete, found.wiped) == (True, False)


async def test_a_video_of_another_time_is_not_taken_for_the_lost_one(
    provider: OpenAIProvider, emulator: Emulator
) -> None:
    """Another caller may have sent the same request an hour before."""
    await start(provider, a_video())
    emulator.account.clock.advance(3600)
    now = datetime.now(UTC) + timedelta(hours=1)
    job = a_video()

    found = await provider.find(job, an_attempt(job, submitted_at=now), now=now)

    assert (found.complete, found.candidates) == (True, ())


async def test_an_empty_list_is_proof(provider: OpenAIProvider) -> None:
    """Nothing was created, so the job can be started again."""
    lost = a_video("a cat [[emu:create_drop]]")
    with pytest.raises(OutcomeUnknown):
        await start(provider, lost)

    found = await search(provider, lost)

    assert (found.complete, found.wiped, found.candidates) == (True, False, ())


@pytest.mark.parametrize("repeats", [True, False])
async def test_a_list_without_prompts_proves_nothing(
    open_openai: Open, emulator: Emulator, *, repeats: bool
) -> None:
    """SGLang does not return them; on a private server that costs only time."""
    emulator.replan(openai_server="sglang")
    provider = open_openai(repeats=repeats)
    lost = a_video("a cat [[emu:create_then_drop]]")
    with pytest.raises(OutcomeUnknown):
        await start(provider, lost)

    found = await search(provider, lost)

    assert (found.complete, found.wiped, found.candidates) == (True, not repeats, ())


@pytest.mark.parametrize("date", ["none", "garbage"])
async def test_without_a_date_an_empty_search_proves_nothing(
    provider: OpenAIProvider, emulator: Emulator, date: str
) -> None:
    """The rows of the intent's time are unknown."""
    await start(provider, a_video("a dog"))
    emulator.replan(rates={"answer_date": 1.0}, arguments={"answer_date": date})

    found = await search(provider, a_video())

    assert not found.complete


async def test_a_wrong_clock_does_not_hide_a_video(
    provider: OpenAIProvider, emulator: Emulator
) -> None:
    """Everything between the two clocks counts."""
    video = await start(provider, a_video())
    emulator.replan(rates={"answer_date": 1.0}, arguments={"answer_date": "-7200"})

    found = await search(provider, a_video())

    assert [candidate.id for candidate in found.candidates] == [video.id]


async def test_the_search_reads_as_many_pages_as_it_needs(
    provider: OpenAIProvider, emulator: Emulator
) -> None:
    """The lost video is the oldest of 120."""
    first = await start(provider, a_video("the first"))
    for _ in range(119):
        await start(provider, a_video("another"))

    found = await search(provider, a_video("the first"))

    assert [candidate.id for candidate in found.candidates] == [first.id]
    assert len([row for row in emulator.ledger.rows("request") if row["method"] == "GET"]) == 2


async def test_a_cyclic_list_is_not_complete(provider: OpenAIProvider, emulator: Emulator) -> None:
    """It never counts as complete."""
    await start(provider, a_video())
    emulator.replan(rates={"list_repeat": 1.0})

    with pytest.raises(ProviderUnavailable):
        await search(provider, a_video("another"))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": None},
        {"id": "../x"},
        {"id": "v", "status": 7, "progress": "much", "error": []},
        {"id": "v", "status": "failed", "error": {"code": ["x"], "message": {"a": 1}}},
        {"id": "v", "status": "completed", "urls": 3, "num_outputs": "two", "url": 5},
        {"id": "v", "status": "completed", "num_outputs": 3, "urls": [None, "https://x/y", 4]},
        {"id": "v", "progress": float("nan"), "usage": {"a": float("inf"), "b": 2**60}},
    ],
    ids=str,
)
def test_any_body_is_parsed(body: dict[str, Any]) -> None:
    """Fields may be missing, or of any type."""
    prediction = read_video(body)

    assert prediction is None or prediction.id == "v"
