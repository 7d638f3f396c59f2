"""Runs on an emulated server: started once, polled, cancelled, and their files."""

from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from comfyworkflows import TXT2IMG
from fleek.domain.attempt import Attempt
from fleek.domain.errors import OutcomeUnknown, OutputMissing, ProviderRejected
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.emulator.media import render
from fleek.emulator.server import Emulator
from fleek.providers.base import Failed, InputFile, Prediction, Succeeded
from fleek.providers.comfyui.provider import LOST_SECONDS, ComfyUIProvider
from fleek.providers.comfyui.wire import CANCELLED, LOST, VIEW
from providers.comfyui.conftest import Ticks, a_job, an_attempt

GONE: Final = PredictionId("00000000-0000-4000-8000-000000000000")


async def run(provider: ComfyUIProvider, job: Job) -> Prediction:
    """Return a run that has ended."""
    started = await provider.start(job, an_attempt(job))
    return (await provider.poll([started.id]))[started.id]


async def test_a_run_saves_files(provider: ComfyUIProvider) -> None:
    """The names of its files stand for them; the seed that was drawn is among its metrics."""
    job = a_job(num_outputs=2)

    ended = await run(provider, job)

    assert isinstance(ended.outcome, Succeeded)
    assert len(ended.outcome.outputs) == 2
    assert ended.metrics["predict_time"] == 0
    assert 0 <= ended.metrics["seed"] < 2**32
    for output in ended.outcome.outputs:
        content = b"".join([chunk async for chunk in provider.read(job, output)])
        assert content[:8] == b"\x89PNG\r\n\x1a\n"


async def test_its_id_is_that_of_the_attempt(
    provider: ComfyUIProvider, emulator: Emulator
) -> None:
    """So a lost response leaves nothing unknown."""
    job = a_job("[[emu:create_then_drop]][[emu:predict=60]]")
    attempt = an_attempt(job)
    with pytest.raises(OutcomeUnknown):
        await provider.start(job, attempt)

    again = await provider.start(job, attempt)

    assert again == Prediction(id=PredictionId(str(attempt.id)))
    assert [sold.id for sold in emulator.account.predictions] == [str(attempt.id)]


async def test_a_run_that_has_ended_is_not_started_again(
    provider: ComfyUIProvider, emulator: Emulator
) -> None:
    """It is in the history."""
    job = a_job()
    attempt = an_attempt(job)
    await provider.start(job, attempt)

    again = await provider.start(job, attempt)

    assert isinstance(again.outcome, Succeeded)
    assert len(emulator.account.predictions) == 1


async def test_each_attempt_has_its_own_seed(
    provider: ComfyUIProvider, emulator: Emulator
) -> None:
    """Else the server would return the same picture from its cache; a repetition has the same."""
    job = a_job("[[emu:create_reset]]")
    attempt = an_attempt(job)
    with pytest.raises(OutcomeUnknown):
        await provider.start(job, attempt)

    for one in (attempt, an_attempt(job)):
        await provider.start(job, one)

    first, second = [
        sold.input["workflow"]["3"]["inputs"]["seed"] for sold in emulator.account.predictions
    ]
    repeated = await provider.start(job, attempt)
    assert first != second
    assert repeated.metrics["seed"] == first


async def test_waiting_and_running_are_not_the_end(provider: ComfyUIProvider) -> None:
    """Both are in the queue."""
    jobs = [a_job("[[emu:predict=60]]"), a_job("[[emu:queue=60]]")]
    ids = [(await provider.start(job, an_attempt(job))).id for job in jobs]

    seen = await provider.poll(ids)

    assert seen == {key: Prediction(id=key) for key in ids}


@pytest.mark.parametrize(
    ("marker", "failure"),
    [
        (
            "[[emu:fail_mid]]",
            Failed(
                "prediction_failed",
                "KSampler (node 3): Prediction failed: an unexpected error occurred (E9999)",
                retryable=False,
            ),
        ),
        (
            "[[emu:transient_failure]]",
            Failed(
                "prediction_failed",
                "KSampler (node 3): CUDA out of memory. Tried to allocate 2.50 GiB",
                retryable=True,
            ),
        ),
    ],
)
async def test_a_failed_run_names_its_node(
    provider: ComfyUIProvider, marker: str, failure: Failed
) -> None:
    """Memory may suffice for another attempt."""
    assert (await run(provider, a_job(marker))).outcome == failure


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (
            {"seed": "x"},
            "KSampler .node 3.: Failed to convert an input value to a INT value: seed",
        ),
        ({"nobody": 1}, "nobody: is not a parameter of this workflow"),
    ],
)
async def test_a_refusal_names_the_input(
    provider: ComfyUIProvider, parameters: dict[str, Any], reason: str
) -> None:
    """Nothing was started."""
    job = a_job(**parameters)

    with pytest.raises(ProviderRejected, match=reason):
        await provider.start(job, an_attempt(job))


async def test_a_workflow_that_was_removed_is_refused(provider: ComfyUIProvider) -> None:
    """Its jobs may have waited since then."""
    job = a_job(model="gone")

    with pytest.raises(ProviderRejected, match="no such workflow any more"):
        await provider.start(job, an_attempt(job))


@pytest.mark.parametrize("marker", ["[[emu:predict=60]]", "[[emu:queue=60]]"])
async def test_cancel_stops_a_run(
    provider: ComfyUIProvider, emulator: Emulator, marker: str
) -> None:
    """It is interrupted, or removed from the queue; another one runs on."""
    job, other = a_job(marker), a_job("[[emu:predict=60]]")
    started = await provider.start(job, an_attempt(job))
    await provider.start(other, an_attempt(other))

    cancelled = await provider.cancel(started.id)
    after = await provider.poll([started.id])

    assert cancelled is not None
    assert cancelled.outcome == CANCELLED
    assert after[started.id].outcome == CANCELLED
    ends = [sold.status(emulator.account.now()) for sold in emulator.account.predictions]
    assert ends == ["canceled", "processing"]


async def test_cancel_leaves_ended_runs_and_those_of_others(
    provider: ComfyUIProvider, emulator: Emulator
) -> None:
    """A late request must not interrupt the run that has begun since."""
    ended = await run(provider, a_job())
    job = a_job("[[emu:predict=60]]")
    await provider.start(job, an_attempt(job))

    known = await provider.cancel(ended.id)
    unknown = await provider.cancel(GONE)
    strange = await provider.cancel(PredictionId("x"))

    assert (known, unknown, strange) == (ended, None, None)
    assert emulator.account.predictions[1].cancelled is None


async def test_a_run_that_the_server_has_forgotten_is_tried_again(
    provider: ComfyUIProvider, ticks: Ticks
) -> None:
    """A restarted server has neither its queue nor its history; a moment of doubt comes first."""
    before = await provider.poll([GONE])

    ticks.seconds += LOST_SECONDS
    after = await provider.poll([GONE])

    assert before == {}
    assert after == {GONE: Prediction(id=GONE, outcome=LOST)}


async def test_an_input_is_uploaded_and_named(
    provider: ComfyUIProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """By its hash, so that equal files are kept once."""
    path = tmp_path / "cat.png"
    path.write_bytes(content := render("cat", "png"))
    digest = sha256(content).hexdigest()
    file = InputFile(
        path=path,
        name="cat.png",
        sha256=digest,
        size_bytes=len(content),
        content_type="image/png",
    )

    name = await provider.upload(file)
    job = a_job(model="invert", image=name)
    attempt: Attempt = an_attempt(job, inputs={"/image": {"sha256": digest}})
    await provider.start(job, attempt)

    assert name == f"fleek/{digest}.png"
    assert emulator.account.uploads[name].content == content
    (sold,) = emulator.account.predictions
    assert sold.input["workflow"]["1"]["inputs"]["image"] == name


async def test_a_file_that_was_removed_is_missing(provider: ComfyUIProvider) -> None:
    """The server responds with 404 and no body."""
    with pytest.raises(OutputMissing):
        async for _ in provider.read(a_job(), Output(uri=f"{VIEW}filename=x.png&type=output")):
            pass


async def test_templates_are_the_models(provider: ComfyUIProvider) -> None:
    """With their descriptions."""
    first, second = await provider.models()

    assert provider.default_model == first.name == ModelName("a-txt2img")
    assert (first.description, first.output) == (TXT2IMG["description"], "image")
    assert (second.name, second.output) == (ModelName("invert"), None)
