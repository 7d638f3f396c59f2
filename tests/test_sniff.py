import io
import json
import struct
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fleek.sniff import SAFE_INLINE, Sniffed, sniff

Look = Callable[[bytes], Sniffed]

UNHURRIED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
EXAMPLES = settings().max_examples  # fewer in a quick run


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Return a function that sniffs bytes, from a file with a misleading name."""
    path = tmp_path / "picture.html.exe"

    def look(content: bytes) -> Sniffed:
        path.write_bytes(content)
        return sniff(path)

    return look


def a_picture(form: str, size: tuple[int, int] = (31, 17), **options: object) -> bytes:
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, form, **options)
    return file.getvalue()


def an_animation(form: str, delays: list[int]) -> bytes:
    """Return an animation whose frames last this many milliseconds each."""
    frames = [Image.new("RGB", (8, 6), (20 * number, 9, 90)) for number in range(len(delays))]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:], duration=delays, loop=0)
    return file.getvalue()


def a_box(name: bytes, content: bytes) -> bytes:
    """Return a box of an ISO media file."""
    return struct.pack(">I4s", 8 + len(content), name) + content


def a_track(width: int, height: int, *, a: int = 1 << 16, d: int = 1 << 16) -> bytes:
    """Return a film's track of these dimensions, rotated by the matrix."""
    matrix = struct.pack(">9i", a, 0, 0, 0, d, 0, 0, 0, 1 << 30)
    header = bytes(40) + matrix + struct.pack(">II", width << 16, height << 16)
    return a_box(b"trak", a_box(b"tkhd", header) + a_box(b"mdia", bytes(16)))


def a_film(
    *tracks: bytes,
    brand: bytes = b"isom",
    scale: int = 600,
    length: int = 1500,
    wide: bool = False,
) -> bytes:
    """Return the boxes of a film without its pictures."""
    layout, version = (">BxxxQQIQ", 1) if wide else (">BxxxIIII", 0)
    header = a_box(b"mvhd", struct.pack(layout, version, 0, 0, scale, length) + bytes(80))
    return (
        a_box(b"ftyp", brand + bytes(4) + b"isomiso2")
        + a_box(b"free", b"")
        + struct.pack(">I4sQ", 1, b"mdat", 16 + 99)
        + bytes(99)
        + a_box(b"moov", header + b"".join(tracks))
    )


def a_sound(seconds: float = 1.5) -> bytes:
    """Return silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(int(8000 * seconds) * 4))
    return file.getvalue()


def a_flac(rate: int = 44_100, samples: int = 66_150) -> bytes:
    """Return the header of a FLAC file."""
    stream = (rate << 44 | 1 << 41 | 15 << 36 | samples).to_bytes(8, "big")
    return b"fLaC\x80\0\0\x22" + bytes(10) + stream + bytes(16)


EBML = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82"

VALID = {
    "png": a_picture("PNG"),
    "jpeg": a_picture("JPEG"),
    "webp": a_picture("WEBP"),
    "webp lossless": a_picture("WEBP", lossless=True),
    "webp animation": an_animation("WEBP", [100, 250]),
    "gif": a_picture("GIF"),
    "gif animation": an_animation("GIF", [100, 250]),
    "avif": a_picture("AVIF"),
    "bmp": a_picture("BMP"),
    "mp4": a_film(a_track(640, 360)),
    "wav": a_sound(),
    "flac": a_flac(),
    "json": b'{"a": [1, 2]}',
    "html": b"<!-- x --><!doctype html><html>",
}


KINDS: list[tuple[bytes, Sniffed]] = [
    (VALID["png"], Sniffed("image/png", "png", 31, 17)),
    (VALID["jpeg"], Sniffed("image/jpeg", "jpg", 31, 17)),
    (a_picture("JPEG", progressive=True), Sniffed("image/jpeg", "jpg", 31, 17)),
    (VALID["webp"], Sniffed("image/webp", "webp", 31, 17)),
    (VALID["webp lossless"], Sniffed("image/webp", "webp", 31, 17)),
    (a_picture("WEBP", exif=b"Exif\0\0x"), Sniffed("image/webp", "webp", 31, 17)),
    (VALID["webp animation"], Sniffed("image/webp", "webp", 8, 6, 0.35)),
    (VALID["gif"], Sniffed("image/gif", "gif", 31, 17)),
    (VALID["gif animation"], Sniffed("image/gif", "gif", 8, 6, 0.35)),
    (an_animation("GIF", [0, 0]), Sniffed("image/gif", "gif", 8, 6)),
    (VALID["avif"], Sniffed("image/avif", "avif", 31, 17)),
    (an_animation("AVIF", [100, 250]), Sniffed("image/avif", "avif", 8, 6, 0.35)),
    (VALID["bmp"], Sniffed("image/bmp", "bmp", 31, 17)),
    (
        b"BM" + bytes(8) + b"\x1a\0\0\0" + struct.pack("<IHHHH", 12, 31, 17, 1, 24),
        Sniffed("image/bmp", "bmp", 31, 17),
    ),
    (VALID["png"][:8] + b"\0\0\0\4CgBI" + VALID["png"][8:], Sniffed("image/png", "png")),
    (a_film(a_track(64, 36)) + b"\0\0\0\0mdat", Sniffed("video/mp4", "mp4", 64, 36, 2.5)),
    (a_film(a_track(64, 36)) + b"\0\0\0\7mdat", Sniffed("video/mp4", "mp4")),
    (a_picture("TIFF"), Sniffed("image/tiff", "tif")),
    (VALID["mp4"], Sniffed("video/mp4", "mp4", 640, 360, 2.5)),
    (a_film(a_track(640, 360), wide=True), Sniffed("video/mp4", "mp4", 640, 360, 2.5)),
    (a_film(a_track(0, 0), a_track(64, 36)), Sniffed("video/mp4", "mp4", 64, 36, 2.5)),
    (a_film(a_track(64, 36, a=0, d=0)), Sniffed("video/mp4", "mp4", 36, 64, 2.5)),
    (a_film(scale=0), Sniffed("video/mp4", "mp4")),
    (a_film(length=0), Sniffed("video/mp4", "mp4")),
    (a_film(length=(1 << 32) - 1), Sniffed("video/mp4", "mp4")),
    (a_film(scale=1, length=1 << 31), Sniffed("video/mp4", "mp4")),
    (a_film(brand=b"mp42"), Sniffed("video/mp4", "mp4", None, None, 2.5)),
    (a_film(a_track(64, 36), brand=b"qt  "), Sniffed("video/quicktime", "mov", 64, 36, 2.5)),
    (a_film(brand=b"M4A "), Sniffed("audio/mp4", "m4a", None, None, 2.5)),
    (a_box(b"ftyp", b"mif1\0\0\0\0mif1heic"), Sniffed("image/heic", "heic")),
    (a_box(b"ftyp", b"mif1\0\0\0\0mif1avif"), Sniffed("image/avif", "avif")),
    (a_box(b"wide", b"") + a_box(b"mdat", bytes(9)), Sniffed("video/quicktime", "mov")),
    (EBML + b"\x84webm\x42\x87", Sniffed("video/webm", "webm")),
    (EBML + b"\x88matroska\x42\x87", Sniffed("video/x-matroska", "mkv")),
    (VALID["wav"], Sniffed("audio/wav", "wav", None, None, 1.5)),
    (VALID["flac"], Sniffed("audio/flac", "flac", None, None, 1.5)),
    (a_flac(rate=0), Sniffed("audio/flac", "flac")),
    (a_flac(samples=0), Sniffed("audio/flac", "flac")),
    (b"ID3\x04\0\0\0\0\0\0", Sniffed("audio/mpeg", "mp3")),
    (b"\xff\xfb\x90\x64\0\0\0\0", Sniffed("audio/mpeg", "mp3")),
    (b"\xff\xfb\x9c\x64\0\0\0\0", Sniffed("application/octet-stream", "bin")),
    (b"\xff\xf1\x50\x80\0\0\0\0", Sniffed("audio/aac", "aac")),
    (b"OggS\0\2" + bytes(22) + b"\x01vorbis", Sniffed("audio/ogg", "ogg")),
    (b"OggS\0\2" + bytes(22) + b"\x80theora", Sniffed("video/ogg", "ogv")),
    (b"%PDF-1.7\n", Sniffed("application/pdf", "pdf")),
    (b"PK\x03\x04\x14\0", Sniffed("application/zip", "zip")),
    (b"\x1f\x8b\x08\0\0", Sniffed("application/gzip", "gz")),
    (b"glTF\2\0\0\0\0\1\0\0", Sniffed("model/gltf-binary", "glb")),
    (b"glTF\1\0\0\0\0\1\0\0", Sniffed("model/gltf-binary", "glb")),
    (b"ply\nformat ascii 1.0\n", Sniffed("model/ply", "ply")),
    (b"ply\r\nformat binary_little_endian 1.0\r\n\0", Sniffed("model/ply", "ply")),
    (b"\xff\x0a\xfa\x1f", Sniffed("image/jxl", "jxl")),
    (b"\0\0\0\x0cJXL \r\n\x87\n\0\0", Sniffed("image/jxl", "jxl")),
    (
        b"a.png".ljust(257, b"\0") + b"ustar\x0000" + bytes(248),
        Sniffed("application/x-tar", "tar"),
    ),
    (b"a".ljust(257, b"\0") + b"ustar  \0" + bytes(248), Sniffed("application/x-tar", "tar")),
    (b"RIFF\0\0\0\0AVI LIST", Sniffed("video/x-msvideo", "avi")),
    (b"FORM\0\0\0\4AIFFCOMM", Sniffed("audio/aiff", "aiff")),
    (b"MThd\0\0\0\6\0\1", Sniffed("audio/midi", "mid")),
    (b"v/1\1\2\0\0\0", Sniffed("image/x-exr", "exr")),
    (b"8BPS\0\1\0\0", Sniffed("image/vnd.adobe.photoshop", "psd")),
    (b"\x93NUMPY\1\0", Sniffed("application/x-npy", "npy")),
    (b"ply me with cake", Sniffed("text/plain", "txt")),
    (VALID["json"], Sniffed("application/json", "json")),
    (b"\xef\xbb\xbf [1]\n", Sniffed("application/json", "json")),
    (b"", Sniffed("application/octet-stream", "bin")),
    (b"\0\1\2\3", Sniffed("application/octet-stream", "bin")),
    (b"\x7fELF\2\1\1", Sniffed("application/octet-stream", "bin")),
    ("text in UTF-16".encode("utf-16"), Sniffed("application/octet-stream", "bin")),
    (b"caf\xe9 in Latin-1", Sniffed("application/octet-stream", "bin")),
]


def test_the_type_is_detected_from_the_bytes(look: Look, subtests: pytest.Subtests) -> None:
    """Names and headers are ignored."""
    for content, expected in KINDS:
        with subtests.test(content=str(content)[:40], expected=str(expected)[:40]):
            assert look(content) == expected


def test_text_is_detected_as_text(look: Look, subtests: pytest.Subtests) -> None:
    """Output of language models may resemble other formats."""
    for content in [
        b"A cat rides a bicycle.\n",
        "Ein Kätzchen fährt Rad 🚲".encode(),
        b"\xef\xbb\xbfwith a mark",
        b"[Verse 1]\nA cat",
        b"{not json",
        b"[" * 100_000,
        b"<think>A cat?</think> A bicycle.",
        b"< 3 cats",
        b"#EXTM3U\nfile:///etc/passwd",
        b"import os\n",
        b"the moov and the ftyp",
    ]:
        with subtests.test(content=str(content)[:40]):
            assert look(content) == Sniffed("text/plain", "txt")


@pytest.mark.parametrize("before", [65_535, 65_534, 65_533])
def test_a_letter_split_by_the_read_limit_is_text(look: Look, before: int) -> None:
    """The limit has split it, not the file."""
    assert look(b"a" * before + "🚲 and on".encode()).content_type == "text/plain"


def test_an_incomplete_letter_at_the_end_is_not_text(look: Look) -> None:
    """The file is truncated, or not UTF-8."""
    assert look(b"a" * 100 + "🚲".encode()[:2]).content_type == "application/octet-stream"


def test_json_is_read_to_its_end(look: Look) -> None:
    """Text may start like JSON."""
    long = json.dumps(["a cat"] * 50_000).encode()

    assert look(long).extension == "json"
    assert look(long + b"!").extension == "txt"


def test_long_json_is_text(look: Look) -> None:
    """Parsing it would be too expensive."""
    assert look(b"[" + b"1," * 3_000_000 + b"1]").extension == "txt"


def test_possible_html_is_html(look: Look, subtests: pytest.Subtests) -> None:
    """It must never be served as text."""
    for content in [
        b"<!DOCTYPE html><p>",
        b"<!doctype something>",
        b" \n\t<HTML>",
        b"\xef\xbb\xbf\n<html lang=en>",
        b"<script>alert(1)</script>",
        b"<script\n src=x>",
        b"<!-- harmless --><script>",
        b"<!-- harmless -->\n<!-- more -->\n<body onload=x>",
        b"<!-- never ends",
        b"<!--->" * 30_000,
        b"<iframe src=x>",
        b"<img/onerror=x src=y>",
        b"</p><script>",
        b"<?php echo 1 ?>",
        b'<?xml version="1.0"?><html xmlns="x">',
        b"<!DOCTYPE html><svg onload=x>",
    ]:
        with subtests.test(content=str(content)[:40]):
            assert look(content) == Sniffed("text/html", "html")


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='x' onload='alert(1)'/>",
        b"<SVG>",
        b"<svg:svg xmlns:svg='x'>",
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg>',
        b'<!DOCTYPE svg PUBLIC "x" "y"><svg>',
    ],
    ids=range(5),
)
def test_svg_is_detected(look: Look, content: bytes) -> None:
    """It may contain scripts, so it is not a raster picture."""
    assert look(content) == Sniffed("image/svg+xml", "svg")


def test_other_xml_is_xml(look: Look) -> None:
    """A style sheet may turn it into a page."""
    assert look(b'<?xml version="1.0"?><rss>') == Sniffed("application/xml", "xml")


def test_active_content_is_not_shown_inline() -> None:
    """Pages, vector pictures, documents and text are saved, not shown."""
    assert not {
        kind
        for kind in SAFE_INLINE
        if not kind.startswith(("image/", "audio/", "video/")) or "xml" in kind
    }


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (VALID["png"] + b"<script>alert(1)</script>", "image/png"),
        (VALID["gif"] + b"PK\x03\x04" + bytes(99), "image/gif"),
        (b"GIF89a/*" + b"\0" * 20 + b"*/=1;alert(1)", "image/gif"),
        (VALID["jpeg"][:20] + b"<html><script>" + VALID["jpeg"][20:], "image/jpeg"),
        (b"%PDF-1.4\n<html><script>" + VALID["png"], "application/pdf"),
        (b"<html>" + VALID["png"], "application/octet-stream"),
        (b"PK\x03\x04" + VALID["png"], "application/zip"),
    ],
    ids=["png+html", "gifar", "gif+js", "jpeg+html", "pdf+html", "html+png", "zip+png"],
)
def test_the_first_bytes_decide(look: Look, content: bytes, content_type: str) -> None:
    """A polyglot file is served as the type that browsers detect."""
    assert look(content).content_type == content_type


def a_png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG with these dimensions."""
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return start + VALID["png"][24:]


@pytest.mark.parametrize(
    ("width", "height"),
    [(65_000, 65_000), (1, 200_000_000), (12_000, 12_000), (0, 5), (16_385, 1), (1 << 31, 1)],
)
def test_the_dimensions_of_a_bomb_are_not_reported(look: Look, width: int, height: int) -> None:
    """A reader might allocate memory for them."""
    assert look(a_png_header(width, height)) == Sniffed("image/png", "png")


def test_the_dimensions_of_a_large_picture_are_reported(look: Look) -> None:
    """Upscalers create such pictures."""
    assert look(a_png_header(8192, 8192)) == Sniffed("image/png", "png", 8192, 8192)


def test_a_long_animation_takes_limited_time(look: Look) -> None:
    """Frames are counted up to a limit, and an unknown duration is not reported."""
    frame = b"!\xf9\4\0\1\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"

    gif = b"GIF89a\1\0\1\0\0\0\0" + frame * 300_000 + b";"
    webp = b"RIFF\0\0\0\0WEBP" + (b"ANMF\x10\0\0\0" + bytes(12) + b"\1\0\0\0") * 20_000

    assert look(gif) == Sniffed("image/gif", "gif", 1, 1)
    assert look(webp) == Sniffed("image/webp", "webp")


def test_a_jpeg_of_endless_segments_takes_limited_time(look: Look) -> None:
    """They are skipped up to a limit."""
    assert look(b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000) == Sniffed("image/jpeg", "jpg")


def test_a_film_of_endless_boxes_takes_limited_time(look: Look) -> None:
    """They are skipped up to a limit."""
    boxes = a_box(b"free", b"") * 100_000

    assert look(a_box(b"ftyp", b"isom\0\0\0\0") + boxes + a_film()) == Sniffed("video/mp4", "mp4")


@pytest.mark.parametrize("name", VALID)
def test_a_truncated_file_keeps_its_type(look: Look, name: str) -> None:
    """A download may break anywhere; no error is raised."""
    whole = look(VALID[name])
    lengths = [*range(20, min(len(VALID[name]), 700)), len(VALID[name]) - 1]

    kinds = {look(VALID[name][:length]).content_type for length in lengths}

    assert kinds <= {whole.content_type, "text/plain"}


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """Only this raises."""
    with pytest.raises(FileNotFoundError):
        sniff(tmp_path / "none")


@settings(suppress_health_check=UNHURRIED, deadline=None, max_examples=3 * EXAMPLES)
@given(
    start=st.sampled_from(sorted(VALID.values())).flatmap(
        lambda content: st.integers(0, len(content)).map(lambda length: content[:length])
    ),
    rest=st.binary(max_size=200),
)
def test_any_bytes_have_a_type(look: Look, start: bytes, rest: bytes) -> None:
    """Nothing raises, and every result can be stored and shown."""
    found = look(start + rest)

    assert found.extension.isalnum()
    assert "/" in found.content_type
    assert (found.width is None) == (found.height is None)
    assert found.width is None or 0 < found.width <= 16_384
    assert found.duration_seconds is None or found.duration_seconds > 0


@settings(suppress_health_check=UNHURRIED, deadline=None, max_examples=3 * EXAMPLES)
@given(
    content=st.sampled_from(sorted(VALID.values())),
    damage=st.lists(st.tuples(st.integers(4, 500), st.binary(min_size=1, max_size=8)), max_size=6),
)
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_damaged_files_raise_nothing(
    look: Look, content: bytes, damage: list[tuple[int, bytes]]
) -> None:
    """Wrong lengths are handled."""
    damaged = bytearray(content)
    for at, noise in damage:
        damaged[at : at + len(noise)] = noise

    found = look(bytes(damaged))

    assert found.extension.isalnum()


@settings(suppress_health_check=UNHURRIED, deadline=None, max_examples=EXAMPLES // 2)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    form=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP"]),
)
def test_dimensions_are_those_of_the_picture(
    look: Look, width: int, height: int, form: str
) -> None:
    """An independent writer is the reference."""
    found = look(a_picture(form, (width, height)))

    assert (found.width, found.height) == (width, height)
