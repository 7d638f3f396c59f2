"""The placeholder's animations, sound and words."""

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


def a_piece(
    kind: str, parameters: Mapping[str, Any], *, prompt: str = PROMPT, seed: int = 7
) -> OutputSpec:
    """Return something small to be made by one of the placeholder's models."""
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
    """Its frames, their time and their size are those asked for."""
    image = Image.open(
        io.BytesIO(models.make(a_piece("animation", SMALL | {"output_format": form})))
    )

    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]

    assert (image.format, image.size, len(frames)) == (form.upper(), (64, 48), 6)
    assert image.info["duration"] == 100
    assert image.info["loop"] == 0
    assert ImageChops.difference(frames[0], frames[3]).getbbox() is not None


def test_gif_says_what_made_it() -> None:
    """The record is the file's comment."""
    image = Image.open(
        io.BytesIO(models.make(a_piece("animation", SMALL | {"output_format": "gif"})))
    )

    record = json.loads(image.info["comment"])

    assert (record["Prompt"], record["Seed"]) == (PROMPT, "7")


def test_animated_webp_says_what_made_it() -> None:
    """The record is in its EXIF."""
    image = Image.open(io.BytesIO(models.make(a_piece("animation", SMALL))))

    comment = image.getexif().get_ifd(0x8769)[0x9286]

    assert json.loads(comment.removeprefix(b"UNICODE\0"))["Prompt"] == PROMPT


def test_an_animation_may_go_without_its_caption() -> None:
    """Whoever shows it full-screen wants the picture alone."""
    large = SMALL | {"width": 160, "height": 120, "frames": 2}

    written, plain = (
        Image.open(io.BytesIO(models.make(a_piece("animation", large | {"caption": caption}))))
        for caption in (True, False)
    )

    difference = ImageChops.difference(written.convert("RGB"), plain.convert("RGB"))
    assert difference.getbbox() is not None


@pytest.mark.parametrize("duration", [1, 2.5])
def test_a_melody_lasts_as_long_as_asked(duration: float) -> None:
    """And is not silent."""
    with wave.open(io.BytesIO(models.make(a_piece("audio", {"duration": duration})))) as file:
        seconds = file.getnframes() / file.getframerate()
        samples = memoryview(file.readframes(file.getnframes())).cast("h")

    assert seconds == duration
    assert 5000 < max(samples) < 32_767


def test_wav_says_what_made_it() -> None:
    """The record is in its INFO list."""
    told = chunks(models.make(a_piece("audio", {"duration": 1})))

    assert told[b"INAM"].decode() == PROMPT
    assert told[b"IART"] == b"fleek/placeholder-audio"
    assert told[b"ICMT"] == b'Parameters: {"duration": 1}; Seed: 7'


def test_words_are_about_the_prompt() -> None:
    """Readable text, with its record at the end."""
    text = models.make(a_piece("text", {"verses": 2})).decode()

    title, *verses, record = text.strip().split("\n\n")

    assert PROMPT in title
    assert [len(verse.splitlines()) for verse in verses] == [4, 4]
    assert "Seed: 7" in record


@pytest.mark.parametrize("prompt", NASTY)
def test_words_are_plain_text_whatever_the_prompt(prompt: str) -> None:
    """Nothing in the file makes it look like a page, a program or a control sequence."""
    text = models.make(a_piece("text", {}, prompt=prompt)).decode()

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
def test_the_same_piece_gives_the_same_file_and_another_seed_another(
    kind: str, parameters: Mapping[str, Any]
) -> None:
    """Two processes may collect one attempt; two jobs differ."""
    first, again = (models.make(a_piece(kind, parameters)) for _ in range(2))
    other = models.make(a_piece(kind, parameters, seed=8))

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
def test_no_prompt_is_too_strange(kind: str, parameters: Mapping[str, Any], prompt: str) -> None:
    """Whatever the caller writes was paid for and must become a file."""
    assert models.make(a_piece(kind, parameters, prompt=prompt))
