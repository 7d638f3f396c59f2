"""The placeholder's animations, audio and text."""

import io
import json
import wave
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageSequence

from fleek.domain.job import ModelName
from fleek.providers.placeholder import models
from fleek.providers.placeholder.spec import OutputSpec

PROMPT = "Chat à vélo 骑"
SMALL = {"width": 64, "height": 48, "frames": 6, "fps": 10}
NASTY = [
    "a\x00\x1b\r\n",
    "🐈‍⬛",
    "\u202eقطة",
    "<html><script>alert(1)</script>",
    "%PDF-1.7",
    "\ud800",
]


def small_spec(
    kind: str, parameters: Mapping[str, Any], *, prompt: str = PROMPT, seed: int = 7
) -> OutputSpec:
    """Return the specification of a small output of one of the placeholder's models."""
    model = ModelName(f"fleek/placeholder-{kind}")
    return OutputSpec(model=model, prompt=prompt, parameters=parameters, seed=seed)


def chunks(wav: bytes) -> dict[bytes, bytes]:
    """Return the fields of the file's INFO list."""
    assert wav[8:12] == b"WAVE"
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    listed = wav[wav.index(b"LIST") + 12 :]
    fields = {}
    while listed:
        size = int.from_bytes(listed[4:8], "little")
        fields[listed[:4]] = listed[8 : 8 + size].rstrip(b"\0")
        listed = listed[8 + size + size % 2 :]
    return fields


@pytest.mark.parametrize("form", ["webp", "gif"])
def test_an_animation_moves(form: str) -> None:
    """Its frames, their duration and their size are those of the parameters."""
    image = Image.open(
        io.BytesIO(models.make(small_spec("animation", SMALL | {"output_format": form})))
    )

    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]

    assert (image.format, image.size, len(frames)) == (form.upper(), (64, 48), 6)
    assert image.info["duration"] == 100
    assert image.info["loop"] == 0
    assert ImageChops.difference(frames[0], frames[3]).getbbox() is not None


def test_a_gif_records_its_parameters() -> None:
    """In the file's comment."""
    image = Image.open(
        io.BytesIO(models.make(small_spec("animation", SMALL | {"output_format": "gif"})))
    )

    record = json.loads(image.info["comment"])

    assert (record["Prompt"], record["Seed"]) == (PROMPT, "7")


def test_an_animated_webp_records_its_parameters() -> None:
    """In its EXIF data."""
    image = Image.open(io.BytesIO(models.make(small_spec("animation", SMALL))))

    comment = image.getexif().get_ifd(0x8769)[0x9286]

    assert json.loads(comment.removeprefix(b"UNICODE\0"))["Prompt"] == PROMPT


def test_an_animation_may_have_no_caption() -> None:
    """The parameter removes it from every frame."""
    large = SMALL | {"width": 160, "height": 120, "frames": 2}

    written, plain = (
        Image.open(io.BytesIO(models.make(small_spec("animation", large | {"caption": caption}))))
        for caption in (True, False)
    )

    difference = ImageChops.difference(written.convert("RGB"), plain.convert("RGB"))
    assert difference.getbbox() is not None


@pytest.mark.parametrize("duration", [1, 2.5])
def test_audio_has_the_requested_duration(duration: float) -> None:
    """It is not silent."""
    with wave.open(io.BytesIO(models.make(small_spec("audio", {"duration": duration})))) as file:
        seconds = file.getnframes() / file.getframerate()
        samples = memoryview(file.readframes(file.getnframes())).cast("h")

    assert seconds == duration
    assert 5000 < max(samples) < 32_767


def test_a_wav_file_records_its_parameters() -> None:
    """In its INFO list."""
    fields = chunks(models.make(small_spec("audio", {"duration": 1})))

    assert fields[b"INAM"].decode() == PROMPT
    assert fields[b"IART"] == b"fleek/placeholder-audio"
    assert fields[b"ICMT"] == b'Parameters: {"duration": 1}; Seed: 7'


def test_text_is_about_the_prompt() -> None:
    """It is readable, with the record at the end."""
    text = models.make(small_spec("text", {"verses": 2})).decode()

    title, *verses, record = text.strip().split("\n\n")

    assert PROMPT in title
    assert [len(verse.splitlines()) for verse in verses] == [4, 4]
    assert "Seed: 7" in record


@pytest.mark.parametrize("prompt", NASTY)
def test_text_is_plain_text_for_any_prompt(prompt: str) -> None:
    """The file does not look like a page, a program or a control sequence."""
    text = models.make(small_spec("text", {}, prompt=prompt)).decode()

    assert text.startswith("Verses on ")
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("animation", SMALL),
        ("animation", SMALL | {"output_format": "gif"}),
        ("audio", {"duration": 1}),
        ("text", {}),
    ],
)
def test_output_depends_on_specification_and_seed(
    kind: str, parameters: Mapping[str, Any]
) -> None:
    """Two processes may collect one attempt; two jobs differ."""
    first, again = (models.make(small_spec(kind, parameters)) for _ in range(2))
    other = models.make(small_spec(kind, parameters, seed=8))

    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("animation", SMALL | {"width": 160, "height": 120}),
        ("animation", SMALL | {"width": 160, "height": 120, "output_format": "gif"}),
        ("audio", {"duration": 1}),
    ],
)
@pytest.mark.parametrize("prompt", [*NASTY, "🐈" * 10_000])
def test_any_prompt_gives_media(kind: str, parameters: Mapping[str, Any], prompt: str) -> None:
    """The prediction is paid for and must result in a file."""
    assert models.make(small_spec(kind, parameters, prompt=prompt))
