"""Requests in fal's queue: submitted once, polled one by one, cancelled, and failed by their results."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from fleek.domain.data_uri import decode
from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.emulator.media import render
from fleek.emulator.server import Emulator
from fleek.providers.base import Failed, InputFile, Prediction, Succeeded
from fleek.providers.fal.provider import GONE_SECONDS, FalProvider
from fleek.providers.http import Answer
from providers.fal.conftest import (
    FixedApi,
    Open,
    Ticks,
    a_job,
    an_attempt,
    polled,
    start,
    with_api,
)


async def test_the_result_has_the_files_and_the_seed(
    provider: FalProvider, emulator: Emulator
) -> None:
    """Sizes and types beside an address are no outputs of their own."""
    job = a_job(num_images=2)
    created = await start(provider, job)

    ended = await polled(provider, created)

    assert isinstance(ended.outcome, Succeeded)
    contents = [
        b"".join([chunk async for chunk in provider.read(job, output)])
        for output in ended.outcome.outputs
    ]
    name = emulator.account.predictions[0].id
    assert contents == [render(f"{name}/{number}", "png") for number in range(2)]
    assert ended.metrics == {"inference_time": 0.0, "seed": 42}
    assert created.id == f"fal-ai/flux/requests/{name}"


async def test_a_request_is_bounded_and_not_repeated_by_fal() -> None:
    """By headers; the address of its callback has the token of its attempt."""
    api = FixedApi([Answer(200, {}, b'{"request_id": "r-1"}')])
    job = a_job(seed=7)
    attempt = an_attempt(job, timeout=timedelta(seconds=90.2))

    created = await with_api(api).start(job, attempt)

    ((method, path, headers),) = api.calls
    address = f"https://here.example/webhooks/fal/{attempt.id}.{attempt.nonce}"
    assert (method, path) == ("POST", f"/fal-ai/flux/dev?fal_webhook={quote(address, safe='')}")
    assert headers == {
        "x-fal-no-retry": "1",
        "x-fal-request-timeout": "91",
        "x-fal-object-lifecycle-preference": '{"expiration_duration_seconds":3600}',
    }
    assert created.id == "fal-ai/flux/requests/r-1"


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("create_422", ProviderRejected, "provider_invalid_input"),
        ("create_403=problem", ProviderRejected, "provider_forbidden"),
        ("create_402", ProviderUnavailable, "provider_payment_required"),
        ("create_401", ProviderUnavailable, "provider_unauthorized"),
        ("create_429=7", ProviderUnavailable, "provider_rate_limited"),
        ("create_5xx=502", OutcomeUnknown, None),
        ("create_then_drop", OutcomeUnknown, None),
        ("create_then_5xx", OutcomeUnknown, None),
        ("create_truncated", OutcomeUnknown, None),
        ("create_html", OutcomeUnknown, None),
        ("create_odd_id=path", OutcomeUnknown, None),
        ("create_odd_id=number", OutcomeUnknown, None),
        ("create_redirect", OutcomeUnknown, None),
    ],
)
async def test_a_failed_submission_is_not_repeated_unless_nothing_was_created(
    provider: FalProvider, fault: str, error: type[Exception], code: str | None
) -> None:
    """An account without credit is locked, with the status 403."""
    with pytest.raises(error) as caught:
        await start(provider, a_job(f"[[emu:{fault}]]"))

    if code is not None:
        assert getattr(caught.value, "code", None) == code


async def test_a_malformed_name_is_refused_before_anything_is_sent(
    provider: FalProvider, emulator: Emulator
) -> None:
    """A name is a part of the address."""
    for model in ("flux", "workflows/owner", "a/b:1", "../x"):
        with pytest.raises(ProviderRejected):
            await start(provider, a_job(model=model))

    assert emulator.account.predictions == []


async def test_paths_and_namespaces_do_not_belong_to_the_requests_address(
    provider: FalProvider,
) -> None:
    """As in fal's own clients."""
    for model, app in {
        "fal-ai/kling-video/v2.1/master/image-to-video": "fal-ai/kling-video",
        "workflows/owner/name": "workflows/owner/name",
    }.items():
        created = await start(provider, a_job(model=model))

        assert created.id.startswith(f"{app}/requests/")
        assert isinstance((await polled(provider, created)).outcome, Succeeded)


@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        ("nsfw", "content_flagged", False),
        ("fail_mid", "prediction_failed", False),
        ("transient_failure", "prediction_failed", True),
        ("interrupted", "prediction_failed", True),
        ("aborted", "prediction_aborted", True),
        ("odd_error=object", "prediction_failed", False),
        ("odd_error=true", "prediction_failed", False),
        ("odd_error=null", "prediction_failed", False),
    ],
)
async def test_a_failure_is_completed_with_an_error_as_its_result(
    provider: FalProvider, fault: str, code: str, *, retryable: bool
) -> None:
    """That is not a lost poll."""
    created = await start(provider, a_job(f"[[emu:{fault}]]"))

    outcome = (await polled(provider, created)).outcome

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.retryable) == (code, retryable)
    assert outcome.message


@pytest.mark.parametrize(
    "fault",
    ["get_5xx", "get_429", "get_reset", "get_html", "get_cut_body", "get_404", "get_odd"],
)
async def test_a_lost_poll_is_not_a_failure(
    provider: FalProvider, fault: str, emulator: Emulator
) -> None:
    """The request is seen again with the next one."""
    created = await start(provider, a_job())
    emulator.replan(rates={fault: 1.0})

    try:
        seen = await polled(provider, created)
    except ProviderUnavailable:
        seen = None
    emulator.replan(rates={})

    assert seen is None
    assert isinstance((await polled(provider, created)).outcome, Succeeded)


async def test_only_what_fal_or_a_model_says_is_a_result() -> None:
    """A gateway may respond with 200, too, and a part of fal may lag behind."""
    status = Answer(200, {}, b'{"status": "COMPLETED", "request_id": "r-1"}')
    results = [
        Answer(200, {}, b'{"error": "upstream request timed out"}'),
        Answer(200, {}, b"[]"),
        Answer(200, {}, b"<html>"),
        Answer(400, {}, b'{"detail": "Request is still in progress"}'),
        Answer(502, {}, b'{"detail": "Bad gateway"}'),
        Answer(404, {}, b'{"detail": "Not found"}'),
        Answer(200, {"x-fal-request-id": "r-1"}, b'{"output": "Once upon a time"}'),
    ]
    provider = with_api(FixedApi([each for result in results for each in (status, result)]))
    key = PredictionId("fal-ai/flux/requests/r-1")
    seen: list[Prediction | None] = []

    for _ in results:
        try:
            seen.append((await provider.poll([key])).get(key))
        except ProviderUnavailable:
            seen.append(None)

    assert seen[:-1] == [None] * 6
    assert seen[-1] is not None
    assert isinstance(seen[-1].outcome, Succeeded)
    assert [output.text for output in seen[-1].outcome.outputs] == ["Once upon a time"]


async def test_a_waiting_request_is_removed_and_a_running_one_is_stopped(
    provider: FalProvider,
) -> None:
    """The response to the latter does not say that it has ended."""
    waiting = await start(provider, a_job("[[emu:queue=60]]"))
    running = await start(provider, a_job("[[emu:predict=60]]"))
    ended = await start(provider, a_job())

    removed, stopped, late = [await provider.cancel(one.id) for one in (waiting, running, ended)]

    assert removed is not None
    assert isinstance(removed.outcome, Failed)
    assert (stopped, late) == (None, None)
    outcome = (await polled(provider, running)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.code == "prediction_cancelled"
    assert isinstance((await polled(provider, ended)).outcome, Succeeded)


async def test_logs_and_progress_are_read_unless_they_are_too_long(
    provider: FalProvider,
) -> None:
    """Without its log a prediction is still seen."""
    running = await start(provider, a_job("[[emu:predict=1000]]"))
    long = await start(provider, a_job("[[emu:huge_logs=6]]"))

    seen = await polled(provider, running)
    huge = await polled(provider, long)

    assert seen.log.startswith("Using seed: 42\n")
    assert seen.progress == 0.0
    assert isinstance(huge.outcome, Succeeded)
    assert huge.log is None


async def test_an_unknown_request_is_gone_only_after_a_while(
    provider: FalProvider, ticks: Ticks
) -> None:
    """A part of fal may lag behind."""
    created = await start(provider, a_job("[[emu:vanish=0]]"))

    before = await polled(provider, created)
    ticks.seconds += GONE_SECONDS
    after = await polled(provider, created)

    assert before is None
    assert isinstance(after.outcome, Failed)
    assert after.outcome.code == "prediction_gone"


async def test_a_file_is_sent_within_the_request(open_fal: Open, tmp_path: Path) -> None:
    """Every model takes it as a ``data:`` URI."""
    path = tmp_path / "input.png"
    path.write_bytes(b"\x89PNG")
    file = InputFile(
        path=path, name="x.png", sha256="0" * 64, size_bytes=4, content_type="image/png"
    )

    value = await open_fal().upload(file)

    assert value.startswith("data:image/png;base64,")
    assert b"".join(decode(iter((value,)))) == b"\x89PNG"


async def test_a_callback_is_awaited_only_if_it_was_requested(open_fal: Open) -> None:
    """For as long as the attempt may take to start, and after that for runs and repeated callbacks."""
    attempt, wait = an_attempt(a_job()), timedelta(hours=2)

    silent = open_fal(callback_wait=wait).callback_limit(attempt)
    called = open_fal(callback_base="https://x.example", callback_wait=wait).callback_limit(
        attempt
    )

    assert (silent, called) == (None, timedelta(minutes=10) + wait)
