"""Signing of outputs: others can verify it, and no paid result is lost by it."""

import asyncio
import hashlib
import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from PIL import Image

from certificates import Identity, an_identity
from fakes import PNG, FakeProvider, a_request
from fleek.bootstrap import open_runtime
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import Job, Stage, Status
from fleek.domain.media import Key, Output, metadata_key
from fleek.emulator.media import render
from fleek.engine.certificates import open_signer
from fleek.engine.collect import collect
from fleek.engine.provenance import SIGNABLE, Signer
from fleek.engine.recover import Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.environment import read
from fleek.providers.base import Succeeded
from fleek.schemas.events import HistoryEvent
from fleek.settings import Settings
from fleek.sniff import sniff
from fleek.store import events, jobs
from fleek.store.jobs import JobView
from fleek.store.workers import Ended


@dataclass
class Files(FakeProvider):
    """A provider that returns these files, one for each output."""

    files: Sequence[bytes] = ()

    async def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:
        """Yield the content of one of them."""
        assert job.prediction_id in self.created
        yield self.files[int(str(output.uri))]


@pytest.fixture
def provider() -> Files:
    """Return the provider of this module's tests."""
    return Files()


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """Return a certificate for signing."""
    return an_identity(tmp_path)


def signer_of(identity: Identity, *, seconds: float = 60, fails_open: bool = True) -> Signer:
    """Return what signs with a certificate."""
    return open_signer(identity.certificates, identity.key, seconds=seconds, fails_open=fails_open)


def running(signer: Signer, program: str) -> Signer:
    """Return this signer with another program in the place of the real one."""
    signer.command = (sys.executable, "-c", program)
    return signer


def a_picture(kind: str = "PNG") -> bytes:
    """Return a file as a model would make it."""
    file = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(file, kind)
    return file.getvalue()


async def collected(rt: Runtime, provider: Files, *contents: bytes) -> JobView:
    """Return a job whose provider returned these files, after collecting it once."""
    provider.at_once, provider.files = True, contents
    provider.outcome = Succeeded(tuple(Output(uri=str(n)) for n in range(len(contents))))
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)
    return await view_of(rt, job)


async def view_of(rt: Runtime, job: Job) -> JobView:
    """Return a job as it is now."""
    return await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)


async def stored(rt: Runtime, key: Key) -> bytes:
    """Read a file from storage."""
    return b"".join([chunk async for chunk in rt.storage.read(key)])


async def notes(rt: Runtime, view: JobView) -> list[str | None]:
    """Return what the metadata document says of the signatures."""
    document = json.loads(await stored(rt, metadata_key(view.job.id)))
    return [output.get("c2pa") for output in document["outputs"]]


def verified(content: bytes, content_type: str, root: str) -> tuple[str | None, dict[str, Any]]:
    """Return C2PA's own verdict about a file, and the manifests in it."""
    import c2pa  # noqa: PLC0415 - a large library that few tests need

    trust = {"trust": {"user_anchors": root}, "verify": {"remote_manifest_fetch": False}}
    context = c2pa.Context.from_dict(trust)
    with c2pa.Reader(content_type, io.BytesIO(content), context=context) as reader:
        return reader.get_validation_state(), json.loads(reader.json())


@pytest.mark.usefixtures("_full_suite")  # starts a process for each file
async def test_c2pa_itself_verifies_signed_outputs(
    rt: Runtime, provider: Files, identity: Identity, tmp_path: Path
) -> None:
    """The row has the hash of the signed file, whose type and size in pixels are those of the original."""
    kinds = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
    contents = [a_picture(kind) for kind in kinds]

    view = await collected(replace(rt, signer=signer_of(identity)), provider, *contents)

    assert view.job.status is Status.COMPLETED
    assert [file.content_type for file in view.media] == list(kinds.values())
    for file, received in zip(view.media, contents, strict=True):
        content = await stored(rt, file.key)
        assert content != received
        assert (file.sha256, file.size_bytes) == (
            hashlib.sha256(content).hexdigest(),
            len(content),
        )
        state, manifests = verified(content, file.content_type, identity.root)
        assert state == "Trusted"
        manifest = manifests["manifests"][manifests["active_manifest"]]
        assert manifest["claim_generator_info"][0]["name"] == "Fleek"
        (actions,) = (one["data"]["actions"] for one in manifest["assertions"])
        assert [action["action"] for action in actions] == ["c2pa.created"]
        (tmp_path / "signed").write_bytes(content)
        sniffed = sniff(tmp_path / "signed")
        assert (sniffed.content_type, sniffed.width, sniffed.height) == (file.content_type, 64, 48)
    assert await notes(rt, view) == ["signed"] * len(kinds)


@pytest.mark.usefixtures("_full_suite")
async def test_sounds_and_films_are_signed_too(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """C2PA's reader accepts them, and what players read of them is the same."""
    kinds = {"wav": "audio/wav", "mp3": "audio/mpeg", "mp4": "video/mp4"}
    contents = [render("a cat", kind) for kind in kinds]

    view = await collected(replace(rt, signer=signer_of(identity)), provider, *contents)
    plain = await collected(rt, provider, *contents)

    assert [file.content_type for file in view.media] == list(kinds.values())
    for file, received in zip(view.media, plain.media, strict=True):
        assert file.sha256 != received.sha256
        content = await stored(rt, file.key)
        assert verified(content, file.content_type, identity.root)[0] == "Trusted"
        assert verified(content[:-1] + b"x", file.content_type, identity.root)[0] != "Trusted"
        assert (file.width, file.height, file.duration_seconds) == (
            received.width,
            received.height,
            received.duration_seconds,
        )
    assert await notes(rt, view) == ["signed"] * len(kinds)


@pytest.mark.usefixtures("_full_suite")
async def test_a_manifest_of_the_provider_stays_as_the_parent(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """Fleek does not claim to have made what came with a signature."""
    signing = replace(rt, signer=signer_of(identity))
    first = await collected(signing, provider, a_picture())
    theirs = await stored(rt, first.media[0].key)

    second = await collected(signing, provider, theirs)

    content = await stored(rt, second.media[0].key)
    state, manifests = verified(content, "image/png", identity.root)
    _, before = verified(theirs, "image/png", identity.root)
    assert state == "Trusted"
    manifest = manifests["manifests"][manifests["active_manifest"]]
    assert [one["active_manifest"] for one in manifest["ingredients"]] == [
        before["active_manifest"]
    ]
    (actions,) = (one["data"]["actions"] for one in manifest["assertions"])
    assert [action["action"] for action in actions] == ["c2pa.opened"]


@pytest.mark.usefixtures("_full_suite")
async def test_a_changed_byte_is_noticed(rt: Runtime, provider: Files, identity: Identity) -> None:
    """The verdict of these tests can be negative."""
    view = await collected(replace(rt, signer=signer_of(identity)), provider, a_picture("JPEG"))
    content = bytearray(await stored(rt, view.media[0].key))

    content[-20] ^= 0xFF

    assert verified(bytes(content), "image/jpeg", identity.root)[0] == "Invalid"


@pytest.mark.usefixtures("_full_suite")
async def test_a_file_that_c2pa_cannot_read_is_stored_as_it_was_received(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """It was paid for, and the other files of the job are signed."""
    broken, whole = a_picture("JPEG")[:40], a_picture()

    view = await collected(replace(rt, signer=signer_of(identity)), provider, broken, whole)

    assert view.job.status is Status.COMPLETED
    assert view.media[0].sha256 == hashlib.sha256(broken).hexdigest()
    first, second = await notes(rt, view)
    assert (first or "").startswith("signing: ")
    assert second == "signed"


@pytest.mark.usefixtures("_full_suite")
def test_c2pa_knows_all_types_that_are_signed() -> None:
    """The list is one of constants, so that the service need not load the library."""
    import c2pa  # noqa: PLC0415 - a large library that few tests need

    assert set(c2pa.Builder.get_supported_mime_types()) >= SIGNABLE


async def test_without_certificates_files_are_stored_as_they_are(
    rt: Runtime, provider: Files
) -> None:
    """It is the default."""
    view = await collected(rt, provider, PNG)

    assert view.media[0].sha256 == hashlib.sha256(PNG).hexdigest()
    assert await notes(rt, view) == [None]


async def test_types_without_a_place_for_a_manifest_are_stored_as_they_are(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """That is no failure, even if signing may not fail."""
    signer = running(signer_of(identity, fails_open=False), "raise SystemExit(1)")

    view = await collected(replace(rt, signer=signer), provider, b"only words")

    assert view.job.status is Status.COMPLETED
    assert await notes(rt, view) == [None]


@pytest.mark.usefixtures("_full_suite")  # starts a process
async def test_a_failure_to_sign_is_noted_with_its_reason(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """By default, the result is stored as it was received."""
    signer = running(signer_of(identity), "raise SystemExit('first\\nno signature today')")

    view = await collected(replace(rt, signer=signer), provider, PNG)

    assert view.job.status is Status.COMPLETED
    assert view.media[0].sha256 == hashlib.sha256(PNG).hexdigest()
    assert await notes(rt, view) == ["signing: no signature today"]
    last = (await events.of_job(rt.db, view.job.id))[-1]
    shown = HistoryEvent.from_line(last.seq, last.type, last.at, last.data)
    assert (shown.type, shown.code) == ("job.completed", "signing_failed")
    assert shown.reason == "1 of 1 outputs not signed: signing: no signature today"


@pytest.mark.usefixtures("_full_suite")  # starts two processes
async def test_the_history_says_which_outputs_are_signed(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """One that has no place for a manifest is not named; a job without failures has no code."""
    signing = replace(rt, signer=signer_of(identity))

    view = await collected(signing, provider, a_picture(), b"only words", a_picture())

    last = (await events.of_job(rt.db, view.job.id))[-1]
    assert last.data == {"outputs": 3, "c2pa": {"0": "signed", "2": "signed"}}


@pytest.mark.usefixtures("_full_suite")  # starts processes
async def test_a_worker_that_comes_too_late_keeps_the_notes(
    rt: Runtime,
    provider: Files,
    identity: Identity,
    second_worker: Callable[[], Runtime],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has written its own document over that of the worker that completed the job."""
    signing = replace(rt, signer=signer_of(identity))
    late = replace(second_worker(), signer=running(signer_of(identity), "raise SystemExit(1)"))
    await late.lease.register()
    provider.at_once, provider.files = True, [a_picture()]
    provider.outcome = Succeeded((Output(uri="0"),))
    job = await submit(rt, a_request())
    await start(rt, job.id)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*_: object) -> AsyncIterator[bytes]:
        reading.set()
        await go_on.wait()
        yield provider.files[0]

    with monkeypatch.context() as slow:
        slow.setattr(provider, "read", slowly)
        sleeping = asyncio.create_task(collect(late, job.id))
        await reading.wait()
    worker_id = late.lease.worker_id
    await late.lease.end()
    await Recovery(rt)._free(Ended(worker_id, resigned=False))
    await collect(signing, job.id)
    before = await stored(rt, metadata_key(job.id))

    go_on.set()
    await sleeping

    assert await notes(rt, await view_of(rt, job)) == ["signed"]
    assert await stored(rt, metadata_key(job.id)) == before


@pytest.mark.usefixtures("_full_suite")  # starts a process
async def test_a_program_that_hangs_is_ended(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """Signing has a time limit."""
    signer = running(signer_of(identity, seconds=0.05), "import time; time.sleep(3600)")

    view = await collected(replace(rt, signer=signer), provider, PNG)

    assert view.job.status is Status.COMPLETED
    assert await notes(rt, view) == ["signing: took too long"]


@pytest.mark.usefixtures("_full_suite")  # starts a process
async def test_a_job_waits_for_its_signature_with_the_paid_result(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """With C2PA_FAILS=closed. It completes later, and nothing is paid again."""
    signer = running(signer_of(identity, fails_open=False), "raise SystemExit(1)")
    signing = replace(rt, signer=signer)

    waiting = await collected(signing, provider, PNG)
    copying = (
        "import json, shutil, sys; o = json.load(sys.stdin); shutil.copy(o['source'], o['target'])"
    )
    running(signer, f"{copying}; open(o['target'], 'ab').write(b'signature')")
    await collect(signing, waiting.job.id)
    completed = await view_of(rt, waiting.job)

    assert waiting.job.stage is Stage.COLLECTING
    assert waiting.job.error is not None
    assert waiting.job.error.code == "signing_failed"
    assert completed.job.status is Status.COMPLETED
    assert await stored(rt, completed.media[0].key) == PNG + b"signature"
    assert len(provider.started) == 1


@pytest.mark.usefixtures("_full_suite")  # starts a process
async def test_signatures_do_not_count_in_the_limit_of_a_job(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """Otherwise, a paid result that fits would be refused."""
    program = (
        "import json, sys; o = json.load(sys.stdin); s = open(o['source'], 'rb').read(); "
        "open(o['target'], 'wb').write(s + b'.' * 100)"
    )
    limits = rt.settings.model_copy(update={"max_job_bytes": 2 * len(PNG)})
    signing = replace(rt, settings=limits, signer=running(signer_of(identity), program))

    view = await collected(signing, provider, PNG, PNG)

    assert view.job.status is Status.COMPLETED
    assert [file.size_bytes for file in view.media] == [len(PNG) + 100] * 2


@pytest.mark.usefixtures("_full_suite")  # starts a process
async def test_the_key_is_given_to_the_program_alone(
    rt: Runtime, provider: Files, identity: Identity
) -> None:
    """Arguments and environments of processes can be read by others."""
    program = (
        "import json, os, sys; o = json.load(sys.stdin); p = open(o['target'], 'wb'); "
        "p.write(repr([sys.argv, dict(os.environ)]).encode()); "
        "sys.exit('PRIVATE KEY' not in o['key'])"
    )
    signing = replace(rt, signer=running(signer_of(identity), program))

    view = await collected(signing, provider, PNG)

    seen = await stored(rt, view.media[0].key)
    assert await notes(rt, view) == ["signed"]
    assert b"PRIVATE KEY" not in seen


def test_certificates_and_key_belong_together(identity: Identity, tmp_path: Path) -> None:
    """Mistakes are found when the service starts."""
    other = tmp_path / "other"
    other.mkdir()
    theirs = an_identity(other)
    weak = tmp_path / "weak.pem"
    weak.write_bytes(
        rsa.generate_private_key(65537, 1024).private_bytes(  # noqa: S505 - refused by what is tested
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    for certificates, key, message in [
        (identity.certificates, theirs.key, "C2PA_PRIVATE_KEY: is not that of the first"),
        (identity.key, identity.key, "C2PA_CERTIFICATES: .* must be a chain"),
        (tmp_path / "none", identity.key, "C2PA_CERTIFICATES: .* must be a chain"),
        (identity.certificates, tmp_path / "none", "C2PA_PRIVATE_KEY: .* must be a private key"),
        (identity.certificates, weak, "C2PA_PRIVATE_KEY: must be a key of"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            open_signer(certificates, key, seconds=1, fails_open=True)


async def test_the_settings_open_a_signer(settings: Settings, identity: Identity) -> None:
    """Both files have to be named."""
    files = {"c2pa_certificates": identity.certificates, "c2pa_private_key": identity.key}
    chosen = settings.model_copy(update={**files, "providers": (), "c2pa_fails": "closed"})

    async with open_runtime(chosen) as opened:
        assert opened.signer is not None
        assert not opened.signer.fails_open


def test_one_file_without_the_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody believes that outputs are signed when they are not."""
    monkeypatch.setenv("C2PA_PRIVATE_KEY", "key.pem")

    with pytest.raises(ConfigurationError, match="C2PA_CERTIFICATES and C2PA_PRIVATE_KEY"):
        read(Settings)
