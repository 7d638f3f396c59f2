"""The placeholder's pictures: reproducible, of the requested size, with the prompt."""

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from fleek.domain.job import ModelName
from fleek.providers.placeholder import models
from fleek.providers.placeholder.picture import STYLE_NAMES, frame, legible, paint
from fleek.providers.placeholder.spec import OutputSpec

PROMPT = "A cat riding a bicycle"

NASTY = {
    "control": "a\x00\x01\x1b[31m\x7f\x85 cat\r\n\t\x0b on two lines",
    "emoji": "🐈‍⬛ on a 🚲 👩🏽‍🚀🏳️‍🌈",
    "right-to-left": "قطة تركب دراجة \u202e\u2066חתל",
    "chinese": "骑自行车的猫",
    "combining": "Z͑ͫ̓a̴l̷g̸o̵" * 50,
    "long": "word " * 2000,
    "one word": "x" * 10_000,
    "invisible": "\u200b\u2060\ufeff",
    "unassigned": "\U0010ffff\ue000\ufffe",
    "surrogate": "\ud800 cat \udfff",
    "accents": "Ærøskøbing — čeština „ß“ ½",
}


def small_spec(
    parameters: Mapping[str, Any] | None = None,
    *,
    prompt: str = PROMPT,
    seed: int = 7,
    model: str = "any/model:1",
) -> OutputSpec:
    """Return the specification of a small picture."""
    small = {"width": 128, "height": 128}
    return OutputSpec(
        model=ModelName(model), prompt=prompt, parameters=small | dict(parameters or {}), seed=seed
    )


def opened(spec: OutputSpec) -> Image.Image:
    """Return the decoded picture."""
    image = Image.open(io.BytesIO(models.make(spec)))
    image.load()
    return image


def test_every_style_of_the_schema_is_painted() -> None:
    """The schema names styles without loading the painting code."""
    assert models.STYLES == STYLE_NAMES


@pytest.mark.parametrize("style", STYLE_NAMES)
def test_the_same_specification_gives_the_same_file(style: str) -> None:
    """Two processes may collect one attempt; both must store the same file."""
    assert models.make(small_spec({"style": style})) == models.make(small_spec({"style": style}))


@pytest.mark.parametrize(
    "other",
    [
        small_spec(seed=8),
        small_spec(prompt="A dog riding a bicycle"),
        small_spec(model="any/model:2"),
        small_spec({"guidance_scale": 3.5}),
        small_spec({"negative_prompt": "dogs"}),
    ],
    ids=["seed", "prompt", "model", "guidance", "negative prompt"],
)
def test_another_specification_gives_another_picture(other: OutputSpec) -> None:
    """Everything that a real model would use makes a difference."""
    difference = ImageChops.difference(paint(small_spec(), (128, 128)), paint(other, (128, 128)))

    assert difference.getbbox() is not None


@pytest.mark.parametrize("form", ["png", "webp"])
def test_the_file_format_does_not_change_the_picture(form: str) -> None:
    """Only the encoding differs."""
    exact = paint(small_spec(), (128, 128))

    image = opened(small_spec({"output_format": form, "output_quality": 100, "caption": False}))

    difference = ImageChops.difference(exact, image.convert("RGB"))
    assert max(ImageStat.Stat(difference).mean) < 4


@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_every_style_paints_every_size(subtests: pytest.Subtests) -> None:
    """The picture is never a single flat colour."""
    for size in [(16, 16), (33, 17), (16, 700), (700, 16), (256, 144)]:
        for style in STYLE_NAMES:
            with subtests.test(size=str(size)[:40], style=str(style)[:40]):
                image = opened(small_spec({"style": style, "width": size[0], "height": size[1]}))

                assert image.size == size
                assert max(ImageStat.Stat(image).stddev) > 5


@pytest.mark.parametrize(
    ("form", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("jpg", "JPEG"), ("webp", "WEBP")]
)
def test_the_file_has_the_requested_format(form: str, kind: str) -> None:
    """It is detected from the bytes."""
    assert opened(small_spec({"output_format": form})).format == kind


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({}, (1024, 1024)),
        ({"aspect_ratio": "16:9"}, (1360, 768)),
        ({"aspect_ratio": "9:16"}, (768, 1360)),
        ({"aspect_ratio": "21:9", "megapixels": "0.25"}, (784, 336)),
        ({"aspect_ratio": "custom", "width": 640, "height": 480}, (640, 480)),
        ({"aspect_ratio": "16:9", "width": 640}, (640, 360)),
        ({"aspect_ratio": "2:1", "height": 64.0}, (128, 64)),
        ({"aspect_ratio": "1:2", "width": 4096}, (4096, 4096)),
        ({"aspect_ratio": "16:9", "width": 64, "height": 64}, (64, 64)),
        ({"megapixels": "4"}, (2048, 2048)),
    ],
)
def test_the_aspect_ratio_completes_the_size(
    parameters: Mapping[str, Any], size: tuple[int, int]
) -> None:
    """Width and height override the aspect ratio."""
    spec = OutputSpec(model=models.PICTURE, prompt=PROMPT, parameters=parameters, seed=1)

    assert frame(spec) == size


@pytest.mark.usefixtures("_full_suite")
def test_the_largest_picture_can_be_painted() -> None:
    """It has the maximum of the schema."""
    image = opened(small_spec({"width": 4096, "height": 4096, "output_format": "jpeg"}))

    assert image.size == (4096, 4096)


def test_a_png_records_its_parameters() -> None:
    """The picture can be made again later."""
    image = opened(small_spec({"guidance": 2}, prompt="Chat à vélo 骑"))

    record = dict(image.info)
    assert (record["Model"], record["Prompt"], record["Seed"], record["Software"]) == (
        "any/model:1",
        "Chat à vélo 骑",
        "7",
        "Fleek",
    )
    assert json.loads(record["Parameters"]) == {"width": 128, "height": 128, "guidance": 2}


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_jpeg_and_webp_record_their_parameters(form: str) -> None:
    """The same record, as EXIF data."""
    exif = opened(small_spec({"output_format": form}, prompt="Chat à vélo 骑")).getexif()

    comment = exif.get_ifd(0x8769)[0x9286]
    record = json.loads(comment.removeprefix(b"UNICODE\0"))
    assert record["Prompt"] == "Chat à vélo 骑"
    assert record["Seed"] == "7"
    assert json.loads(record["Parameters"])["output_format"] == form
    assert exif[0x0110] == "any/model:1"


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_record_too_long_for_the_format_is_cut(form: str) -> None:
    """A JPEG segment holds 64 KiB; the longest prompt and parameters are longer."""
    parameters = {"output_format": form, "negative_prompt": "\x01骑" * 2500}

    assert opened(small_spec(parameters, prompt="🐈" * 10_000)).size == (128, 128)


@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_any_prompt_gives_a_picture(subtests: pytest.Subtests) -> None:
    """The prediction is paid for and must result in a picture."""
    for prompt in NASTY.values():
        for form in ["png", "jpeg", "webp"]:
            with subtests.test(prompt=str(prompt)[:40], form=str(form)[:40]):
                parameters = {"width": 200, "height": 160, "output_format": form}

                assert opened(small_spec(parameters, prompt=prompt)).size == (200, 160)


def test_the_caption_is_at_the_bottom() -> None:
    """It shows the prompt."""
    plain = opened(small_spec({"width": 512, "height": 512, "caption": False}))
    written = opened(small_spec({"width": 512, "height": 512}))

    changed = ImageChops.difference(plain, written).getbbox()

    assert changed is not None
    assert changed[1] > 400


def test_a_long_prompt_is_wrapped() -> None:
    """In more lines, not in a smaller font."""
    size = {"width": 512, "height": 512, "style": "glass"}
    tops = []
    for prompt in ("A cat", "A cat riding a bicycle " * 4):
        plain = opened(small_spec(size | {"caption": False}, prompt=prompt))
        box = ImageChops.difference(plain, opened(small_spec(size, prompt=prompt))).getbbox()
        assert box is not None
        tops.append(box[1])

    assert tops[1] < tops[0] - 10


def test_small_pictures_have_no_caption() -> None:
    """It would not be readable."""
    plain = opened(small_spec({"width": 64, "height": 64, "caption": False}))
    small = opened(small_spec({"width": 64, "height": 64}))

    assert ImageChops.difference(plain, small).getbbox() is None


@pytest.mark.parametrize(
    ("prompt", "drawn"),
    [
        ("A cat", "A cat"),
        ("Ærøskøbing — čeština „ß“", "Aeroskobing - cestina “ss“"),
        ("two\nlines\tand\x1b a bell\x07", "two lines and a bell"),
        ("cat 🐈 and bike", "cat and bike"),
        ("骑自行车的猫", ""),
        ("cat 骑自行车的猫", ""),
        ("🐈", ""),
    ],
)
def test_only_letters_of_the_font_are_written(prompt: str, drawn: str) -> None:
    """Accents may be dropped; a text that would be mostly missing is left out."""
    assert legible(prompt) == drawn


def test_a_word_in_the_prompt_selects_the_colours() -> None:
    """A forest is green with any seed."""
    means = [
        ImageStat.Stat(
            paint(small_spec({"style": "glass"}, prompt="A forest", seed=n), (64, 64))
        ).mean
        for n in range(5)
    ]

    assert all(green > red and green > blue for red, green, blue in means)
