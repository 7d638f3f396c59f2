"""Media inputs: images to edit, the first frame of a video."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fleek.domain.errors import OutcomeUnknown, ProviderRejected
from fleek.emulator.media import render
from fleek.emulator.server import Emulator
from fleek.providers.base import InputFile, Succeeded, SupportsUpload
from fleek.providers.openai.provider import OpenAIProvider
from providers.openai.conftest import Open, a_job, with_files


async def uri_of(provider: OpenAIProvider, folder: Path, name: str) -> str:
    """Return the value of a picture among the parameters."""
    path = folder / name
    path.write_bytes(content := render(name, "png"))
    digest = sha256(content).hexdigest()
    return await provider.upload(
        InputFile(
            path=path,
            name=f"{name}.png",
            sha256=digest,
            size_bytes=len(content),
            content_type="image/png",
        )
    )


def digest(name: str) -> str:
    """Return the hash by which the emulator keeps a file."""
    return sha256(render(name, "png")).hexdigest()


async def test_an_image_with_files_is_an_edit(
    provider: OpenAIProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """The bytes are parts of a form, beside the other parameters."""
    image, mask = [await uri_of(provider, tmp_path, name) for name in ("cat", "mask")]
    job = a_job("a hat", image=image, mask=mask, size="1024x1024", n=2)

    made = await provider.start(job, with_files(job))

    (row,) = emulator.ledger.rows("request")
    (sold,) = emulator.account.predictions
    assert row["path"] == "/openai/v1/images/edits"
    assert (sold.input["image"], sold.input["mask"]) == (digest("cat"), digest("mask"))
    assert (sold.input["prompt"], sold.input["size"]) == ("a hat", "1024x1024")
    assert isinstance(made.outcome, Succeeded)


async def test_a_mask_has_the_name_that_the_server_knows(
    provider: OpenAIProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """VLLM-Omni 0.30.0 reads `mask_image`, and ignores `mask` without a word."""
    emulator.replan(openai_server="vllm")
    image, mask = [await uri_of(provider, tmp_path, name) for name in ("cat", "mask")]
    job = a_job("a hat", model="acme/painter", image=image, mask_image=mask)

    await provider.start(job, with_files(job))

    schema = await provider.schema(job.model)
    (sold,) = emulator.account.predictions
    assert sold.input["mask_image"] == digest("mask")
    assert schema is not None
    assert schema["properties"]["mask_image"]["format"] == "uri"  # references of it are files


async def test_several_images_are_parts_with_one_name(
    provider: OpenAIProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """As OpenAI's own client sends them."""
    images = [await uri_of(provider, tmp_path, name) for name in ("cat", "dog")]
    job = a_job("together", image=images)

    await provider.start(job, with_files(job))

    (sold,) = emulator.account.predictions
    assert sold.input["image[]"] == digest("dog")  # the emulator keeps the last one


async def test_a_picture_is_the_first_frame_of_a_video(
    provider: OpenAIProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """It is a part of the form."""
    picture = await uri_of(provider, tmp_path, "cat")
    job = a_job("it walks", model="sora-2", input_reference=picture, seconds=4)

    await provider.start(job, with_files(job))

    (sold,) = emulator.account.predictions
    assert sold.input["input_reference"] == digest("cat")


async def test_a_video_is_made_from_a_picture_and_a_sound(
    provider: OpenAIProvider, emulator: Emulator, tmp_path: Path
) -> None:
    """Servers that make talking portraits take both as parts of the form."""
    picture = await uri_of(provider, tmp_path, "cat")
    sound = tmp_path / "voice.wav"
    sound.write_bytes(content := b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256)))
    audio = await provider.upload(
        InputFile(
            path=sound,
            name="voice.wav",
            sha256=sha256(content).hexdigest(),
            size_bytes=len(content),
            content_type="audio/wav",
        )
    )
    job = a_job("it speaks", model="sora-2", input_reference=picture, audio=audio)

    await provider.start(job, with_files(job))

    (sold,) = emulator.account.predictions
    assert sold.input["input_reference"] == digest("cat")
    assert sold.input["audio"] == sha256(content).hexdigest()


@pytest.mark.parametrize("repeats", [True, False])
async def test_a_lost_video_with_a_file_is_not_adopted(
    open_openai: Open, tmp_path: Path, *, repeats: bool
) -> None:
    """The list contains no files: an equal prompt may belong to another picture."""
    provider = open_openai(repeats=repeats)
    picture = await uri_of(provider, tmp_path, "cat")
    job = a_job("[[emu:create_then_drop]]", model="sora-2", input_reference=picture)
    attempt = with_files(job)
    with pytest.raises(OutcomeUnknown):
        await provider.start(job, attempt)

    found = await provider.find(job, attempt, now=attempt.submitted_at)

    assert (found.candidates, found.wiped) == ((), not repeats)


async def test_an_unsafe_parameter_name_is_refused(provider: OpenAIProvider) -> None:
    """Names are part of a header of the form."""
    odd: dict[str, Any] = {'a"\r\nb': "x"}
    job = a_job("a cat", model="sora-2", **odd)

    with pytest.raises(ProviderRejected):
        await provider.start(job, with_files(job))


def test_the_provider_accepts_files(provider: OpenAIProvider) -> None:
    """The engine resolves references for it."""
    assert isinstance(provider, SupportsUpload)
