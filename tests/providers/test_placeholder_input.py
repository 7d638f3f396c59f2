"""An input picture is visible in the placeholder's result."""

import io
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image, ImageChops, ImageStat

from fleek.domain.errors import InputUnusable
from fleek.domain.inputs import media_inputs
from fleek.domain.job import Job
from fleek.providers.base import InputFile, Succeeded
from fleek.providers.placeholder.provider import PlaceholderProvider, PlaceholderSettings
from fleek.sniff import sniff
from samples import a_job, an_attempt

SMALL: Final = {"width": 128, "height": 128, "caption": False, "seed": 7}
REFERENCE: Final = "upload:0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"


@pytest.fixture
def provider() -> PlaceholderProvider:
    """Return a placeholder whose predictions end at once."""
    return PlaceholderProvider(PlaceholderSettings(delay_min=0, delay_max=0))


def file_of(tmp_path: Path, content: bytes) -> InputFile:
    """Return a media input with these bytes."""
    path = tmp_path / sha256(content).hexdigest()
    path.write_bytes(content)
    return InputFile(
        path=path,
        name="x",
        sha256=path.name,
        size_bytes=len(content),
        content_type=sniff(path).content_type,
    )


def picture(colour: str, *, form: str = "PNG", size: tuple[int, int] = (64, 32)) -> bytes:
    """Return a picture of one colour as a file."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, form)
    return buffer.getvalue()


async def painted(provider: PlaceholderProvider, tmp_path: Path, **parameters: Any) -> Image.Image:
    """Return the picture for these parameters; bytes are uploaded first."""
    values = {
        name: await provider.upload(file_of(tmp_path, value))
        if isinstance(value, bytes)
        else value
        for name, value in (SMALL | parameters).items()
    }
    references = {
        name: REFERENCE if isinstance(value, bytes) else value
        for name, value in parameters.items()
    }
    found = media_inputs(references, None)
    job: Job = a_job(model="fleek/placeholder", input=values, inputs=found)
    sent = {each.pointer: {"sha256": "0"} for each in found}
    prediction = await provider.start(job, an_attempt(job, inputs=sent))
    assert isinstance(prediction.outcome, Succeeded)
    parts = [part async for part in provider.read(job, prediction.outcome.outputs[0])]
    image = Image.open(io.BytesIO(b"".join(parts)))
    image.load()
    return image


def red(image: Image.Image) -> float:
    """Return how red a picture is, 0-255."""
    return ImageStat.Stat(image.convert("RGB")).mean[0]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_an_input_picture_is_visible_in_the_result(
    provider: PlaceholderProvider, tmp_path: Path, form: str
) -> None:
    """The same input gives the same result."""
    warm = await painted(provider, tmp_path, image=picture("red", form=form))
    again = await painted(provider, tmp_path, image=picture("red", form=form))
    cold = await painted(provider, tmp_path, image=picture("black", form=form))

    assert red(warm) > red(cold) + 80
    assert ImageChops.difference(warm, again).getbbox() is None


async def test_the_strength_determines_how_much_is_painted(
    provider: PlaceholderProvider, tmp_path: Path
) -> None:
    """With 0 the input is unchanged; with 1 it is invisible."""
    given = picture("red")

    stays = await painted(provider, tmp_path, image=given, strength=0)
    gone = await painted(provider, tmp_path, image=given, strength=1)

    assert stays.getpixel((64, 64)) == (255, 0, 0)
    assert ImageStat.Stat(gone).stddev[0] > 0


async def test_a_mask_limits_the_painted_area(
    provider: PlaceholderProvider, tmp_path: Path
) -> None:
    """Black areas keep the input."""
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (64, 0, 128, 128))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")

    image = await painted(provider, tmp_path, image=picture("red"), mask=buffer.getvalue())

    assert red(image.crop((0, 0, 64, 128))) == 255
    assert red(image.crop((64, 0, 128, 128))) < 250


async def test_the_record_of_a_picture_has_the_hash_of_its_input(
    provider: PlaceholderProvider, tmp_path: Path
) -> None:
    """Not by its bytes, which would double the file."""
    content = picture("red")

    image = await painted(provider, tmp_path, image=content)

    assert sha256(content).hexdigest() in image.info["Parameters"]
    assert "base64" not in image.info["Parameters"]


@pytest.mark.parametrize(
    "content",
    [b"RIFF\x00\x00\x00\x00WAVE", b"words", picture("red")[:60], b"\x89PNG\r\n\x1a\n"],
    ids=["sound", "text", "half a picture", "a head"],
)
async def test_an_input_of_another_type_is_refused(
    provider: PlaceholderProvider, tmp_path: Path, content: bytes
) -> None:
    """Before the prediction starts."""
    with pytest.raises(InputUnusable) as caught:
        await provider.upload(file_of(tmp_path, content))

    assert caught.value.code == "input_unsupported"


async def test_a_picture_with_too_many_pixels_is_refused(
    provider: PlaceholderProvider, tmp_path: Path
) -> None:
    """A small file can hold a huge one."""
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")

    with pytest.raises(InputUnusable):
        await provider.upload(file_of(tmp_path, buffer.getvalue()))


async def test_a_word_as_image_varies_the_picture(
    provider: PlaceholderProvider, tmp_path: Path
) -> None:
    """Such values were valid before media inputs."""
    one = await painted(provider, tmp_path, image="cat")
    other = await painted(provider, tmp_path, image="dog")

    assert ImageChops.difference(one, other).getbbox() is not None
