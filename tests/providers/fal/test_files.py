"""Large media inputs: they are sent to fal's storage, before anything is paid."""

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
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.uploads import accept_upload
from fleek.providers.base import InputFile
from fleek.providers.fal.files import INLINE_BYTES, MAX_BYTES, FileStorage
from fleek.providers.http import Answer
from fleek.store import attempts, jobs
from providers.fal.conftest import MODEL, FixedApi, Open

CONTENT: Final = b"\x89PNG\r\n\x1a\n" + bytes(INLINE_BYTES)
DIGEST: Final = sha256(CONTENT).hexdigest()
OUTAGES: Final = [
    *("token_5xx", "token_html", "upload_5xx", "upload_reset", "upload_then_reset", "upload_odd")
]


def file_of(tmp_path: Path, **fields: Any) -> InputFile:
    """Return a file that is too large for a request."""
    path = tmp_path / "input.png"
    path.write_bytes(CONTENT)
    given = {"name": "cat.png", "sha256": DIGEST, "size_bytes": len(CONTENT), **fields}
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
    with pytest.raises(ProviderUnavailable):
        await provider.upload(file_of(tmp_path))

    emulator.replan(rates={})
    address = await provider.upload(file_of(tmp_path))

    assert address.endswith(f"/{DIGEST}.png")
    assert emulator.account.predictions == []


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
    ("token", "code"),
    [
        (answer(401), "provider_unauthorized"),
        (answer(429), "provider_rate_limited"),
        (answer(200, b'{"token": 5, "token_type": "Bearer"}'), "provider_unavailable"),
        (answer(200, b'{"token": "t", "token_type": "a\\nb"}'), "provider_unavailable"),
    ],
)
async def test_a_refused_key_and_an_outage_have_different_codes(
    tmp_path: Path, token: Answer, code: str
) -> None:
    """The first pauses the account."""
    api: Any = FixedApi([token])

    with pytest.raises(ProviderUnavailable) as caught:
        await FileStorage(api, api).send(file_of(tmp_path))

    assert caught.value.code == code


async def test_a_refused_token_of_an_upload_does_not_pause_the_account(tmp_path: Path) -> None:
    """It may have expired while the file was read; the next one is new."""
    granted = answer(200, b'{"token": "t", "token_type": "Bearer"}')
    api: Any = FixedApi([granted, answer(401)])

    with pytest.raises(ProviderUnavailable) as caught:
        await FileStorage(api, api).send(file_of(tmp_path))

    assert caught.value.code == "provider_unavailable"


async def _chunks() -> Any:
    yield CONTENT


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
    assert sold.input["image_url"].endswith(f"/{DIGEST}.png")
