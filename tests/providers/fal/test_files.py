"""Large media inputs: they are sent to fal's storage, before anything is paid."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from fakes import Clock, a_request
from fleek.domain.errors import InputUnusable, ProviderUnavailable
from fleek.domain.job import ModelName, Stage, Status
from fleek.emulator.server import Emulator
from fleek.engine.inputs import LIMIT_SECONDS
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.throttle import OPENS_AFTER
from fleek.engine.uploads import accept_upload
from fleek.providers.base import InputFile
from fleek.providers.fal.files import (
    FALLBACK_BYTES,
    INLINE_BYTES,
    MAX_BYTES,
    PLACE_SECONDS,
    SENDS,
    UNAVAILABLE,
    UPLOAD_SECONDS,
    FileStorage,
)
from fleek.providers.http import WHOLE_SECONDS, Answer
from fleek.store import attempts, jobs, provider_health
from providers.fal.conftest import MODEL, FixedApi, Open, with_api

CONTENT: Final = b"\x89PNG\r\n\x1a\n" + bytes(INLINE_BYTES)
DIGEST: Final = sha256(CONTENT).hexdigest()
LARGE: Final = CONTENT + bytes(FALLBACK_BYTES)
LARGE_DIGEST: Final = sha256(LARGE).hexdigest()
OUTAGES: Final = [
    *("token_5xx", "token_html", "upload_5xx", "upload_reset", "upload_then_reset", "upload_odd")
]


def file_of(tmp_path: Path, content: bytes = CONTENT, **fields: Any) -> InputFile:
    """Return a file that is sent to the storage."""
    path = tmp_path / "input.png"
    path.write_bytes(content)
    digest = sha256(content).hexdigest()
    given = {"name": "cat.png", "sha256": digest, "size_bytes": len(content), **fields}
    return InputFile(path=path, content_type="image/png", **given)


async def test_a_large_file_is_sent_first(
    open_fal: Open, emulator: Emulator, tmp_path: Path
) -> None:
    """Its address stands for it; the name that the caller gave it stays here."""
    address = await open_fal().upload(file_of(tmp_path))

    (stored,) = emulator.account.uploads.values()
    assert address == f"{emulator.fal_url}/files/{stored.id}/{DIGEST}.png"
    assert (stored.content, stored.content_type) == (CONTENT, "image/png")
    assert emulator.account.predictions == []


@pytest.mark.parametrize(
    ("lifetime", "kept"),
    [(None, None), (timedelta(days=7), 604_800), (timedelta(minutes=5), 86_400)],
)
async def test_it_is_kept_as_long_as_outputs_are(
    open_fal: Open,
    emulator: Emulator,
    tmp_path: Path,
    *,
    lifetime: timedelta | None,
    kept: int | None,
) -> None:
    """For a day at least: the request may wait in the queue."""
    await open_fal(object_lifetime=lifetime).upload(file_of(tmp_path))

    (stored,) = emulator.account.uploads.values()
    wanted = {} if kept is None else {"lifecycle": f'{{"expiration_duration_seconds":{kept}}}'}
    assert stored.metadata == wanted


@pytest.mark.parametrize("fault", OUTAGES)
async def test_an_upload_that_fails_may_be_repeated(
    open_fal: Open, emulator: Emulator, tmp_path: Path, fault: str
) -> None:
    """Even if it was stored: another copy costs nothing."""
    emulator.replan(rates={fault: 1.0})
    provider = open_fal()
    with pytest.raises(ProviderUnavailable) as caught:
        await provider.upload(file_of(tmp_path, LARGE))

    emulator.replan(rates={})
    address = await provider.upload(file_of(tmp_path, LARGE))

    assert caught.value.code == UNAVAILABLE
    assert address.endswith(f"/{LARGE_DIGEST}.png")
    assert emulator.account.predictions == []


@pytest.mark.parametrize("fault", OUTAGES)
async def test_without_the_storage_a_file_of_medium_size_is_sent_within_the_request(
    open_fal: Open, emulator: Emulator, tmp_path: Path, fault: str
) -> None:
    """The job need not wait."""
    emulator.replan(rates={fault: 1.0})

    value = await open_fal().upload(file_of(tmp_path))

    assert value == f"data:image/png;base64,{b64encode(CONTENT).decode()}"


async def test_a_file_that_fal_refuses_is_unusable(
    open_fal: Open, emulator: Emulator, tmp_path: Path
) -> None:
    """A repetition would be refused, too."""
    emulator.replan(rates={"upload_refused": 1.0})

    with pytest.raises(InputUnusable, match="fal refused a file"):
        await open_fal().upload(file_of(tmp_path))


async def test_a_file_may_be_too_large(open_fal: Open, emulator: Emulator, tmp_path: Path) -> None:
    """Such files are sent in parts by fal's client, which is not done here."""
    with pytest.raises(InputUnusable, match="100 MiB"):
        await open_fal().upload(file_of(tmp_path, size_bytes=MAX_BYTES + 1))

    assert emulator.ledger.counts["request"] == 0


def answer(status: int, body: bytes = b"{}") -> Answer:
    """Return a response."""
    return Answer(status, {"content-type": "application/json"}, body)


@pytest.mark.parametrize(
    "token",
    [
        *(answer(status) for status in (401, 402, 403, 404, 429, 500)),
        answer(200, b'{"token": 5, "token_type": "Bearer"}'),
        answer(200, b'{"token": "t", "token_type": "a\\nb"}'),
    ],
)
async def test_trouble_with_tokens_has_one_code(tmp_path: Path, token: Answer) -> None:
    """It says nothing about the queue: that tells by itself if the key is refused."""
    api: Any = FixedApi([token])

    with pytest.raises(ProviderUnavailable) as caught:
        await FileStorage(api, api).send(file_of(tmp_path))

    assert caught.value.code == UNAVAILABLE


async def test_a_refused_token_of_an_upload_does_not_pause_the_account(tmp_path: Path) -> None:
    """It may have expired while the file was read; the next one is new."""
    granted = answer(200, b'{"token": "t", "token_type": "Bearer"}')
    api: Any = FixedApi([granted, answer(401)])

    with pytest.raises(ProviderUnavailable) as caught:
        await FileStorage(api, api).send(file_of(tmp_path))

    assert caught.value.code == UNAVAILABLE


class Stuck(FixedApi):
    """An API that answers nothing until it may."""

    def __init__(self, calls: int) -> None:
        body = b'{"token": "t", "token_type": "Bearer", "access_url": "https://cdn.example/a.png"}'
        super().__init__([answer(200, body)])
        self.arrived = asyncio.Barrier(calls + 1)
        self.may_answer = asyncio.Event()

    async def post(self, path: str, content: bytes, headers: Any = None) -> Answer:
        """Return the response, late."""
        if not self.may_answer.is_set():
            await self.arrived.wait()
            await self.may_answer.wait()
        return await super().post(path, content, headers)


async def test_a_file_does_not_wait_for_others_for_long(tmp_path: Path) -> None:
    """The job gives its place to another, and comes back; those that are sent are not disturbed."""
    api: Any = Stuck(SENDS)
    storage, file = FileStorage(api, api, patience=0), file_of(tmp_path)
    sending = [asyncio.create_task(storage.send(file)) for _ in range(SENDS)]
    await api.arrived.wait()

    with pytest.raises(ProviderUnavailable, match="take too long") as caught:
        await storage.send(file)
    api.may_answer.set()

    assert caught.value.code == UNAVAILABLE
    assert await asyncio.gather(*sending) == ["https://cdn.example/a.png"] * SENDS
    assert await storage.send(file) == "https://cdn.example/a.png"


def test_one_file_has_time_enough() -> None:
    """Else a slow storage would be reported as inputs that are late, whatever the size of the file."""
    assert PLACE_SECONDS + WHOLE_SECONDS + UPLOAD_SECONDS < LIMIT_SECONDS


async def _chunks() -> Any:
    yield LARGE


@pytest.mark.parametrize("status", [401, 402, 429, 503])
async def test_trouble_of_the_storage_pauses_nothing(
    rt: Runtime, clock: Clock, status: int
) -> None:
    """Neither the account nor the model: only the job with the file waits."""
    rt = replace(rt, providers={"fal": with_api(FixedApi([answer(status)]))})
    file = await accept_upload(rt, _chunks(), tenant_id="default")
    asked = a_request(
        provider="fal", model=ModelName(MODEL), parameters={"image_url": file.reference}
    )
    job = await submit(rt, asked)

    for _ in range(OPENS_AFTER + 1):
        await start(rt, job.id)
        assert await provider_health.impaired(rt.db, now=rt.now()) == []
        clock.tick(seconds=600)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.status, waiting.attempt) == (Status.PENDING, 0)
    assert waiting.error is not None
    assert waiting.error.code == UNAVAILABLE
    assert waiting.collects == OPENS_AFTER + 1


@pytest.mark.parametrize("fault", ["upload_5xx", "upload_then_reset"])
async def test_a_failed_upload_costs_no_attempt_and_the_job_is_paid_for_once(
    rt: Runtime, clock: Clock, open_fal: Open, emulator: Emulator, fault: str
) -> None:
    """The job waits without an attempt, and is started with the next upload."""
    rt = replace(rt, providers={"fal": open_fal()})
    file = await accept_upload(rt, _chunks(), tenant_id="default")
    wanted: Mapping[str, Any] = {"image_url": file.reference}
    asked = a_request(provider="fal", model=ModelName(MODEL), parameters=wanted)
    job = await submit(rt, asked)
    emulator.replan(rates={fault: 1.0})
    await start(rt, job.id)
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    made = await attempts.of_job(rt.db, job.id)

    emulator.replan(rates={})
    clock.tick(seconds=60)
    await start(rt, job.id)
    await start(rt, job.id)

    assert (waiting.status, waiting.attempt, made) == (Status.PENDING, 0, [])
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING
    (sold,) = emulator.account.predictions
    assert sold.input["image_url"].endswith(f"/{LARGE_DIGEST}.png")
