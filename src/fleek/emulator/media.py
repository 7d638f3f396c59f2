"""Small deterministic files of every kind, and the shapes of outputs."""

import base64
import io
import struct
import wave
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

CONTENT_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "txt": "text/plain; charset=utf-8",
}


@lru_cache(maxsize=256)
def render(name: str, extension: str) -> bytes:
    """Return the file for a name, of a type in `CONTENT_TYPES`. Names determine unique bytes."""
    return _MAKERS[extension](name)


def pixel_bomb() -> bytes:
    """Return a PNG of 60000 x 60000 pixels in a few hundred bytes (truncated)."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def gzip_bomb() -> tuple[bytes, bytes]:
    """Return the beginning of a gzip stream, and a piece that decompresses to 1 MiB of zeros.

    The piece may be repeated any number of times: it ends with a full flush.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", piece


def _picture(name: str) -> Image.Image:
    seed = sha256(name.encode()).digest()
    tile = Image.frombytes("RGB", (3, 3), seed[:27])
    return tile.resize((64, 64), Image.Resampling.BICUBIC)


def _png(name: str) -> bytes:
    note = PngInfo()
    note.add_text("prediction", name)  # makes the bytes unique
    return _saved(_picture(name), "PNG", pnginfo=note)


def _jpg(name: str) -> bytes:
    return _saved(_picture(name), "JPEG", comment=name.encode())


def _webp(name: str) -> bytes:
    """Return a picture, encoded in the quickest way: the usual one takes fifteen times as long, 4 ms.

    It would be waited for with each download, and beside a service it would take a share of its cores.
    """
    note = b"Exif\x00\x00" + name.encode()
    return _saved(_picture(name), "WEBP", lossless=True, method=0, exif=note)


def _gif(name: str) -> bytes:
    frames = [_picture(f"{name}/{frame}") for frame in range(3)]
    more = {"save_all": True, "append_images": frames[1:], "duration": 100, "loop": 0}
    return _saved(frames[0], "GIF", comment=name.encode(), **more)


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _wav(name: str) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(sha256(name.encode()).digest() * 64)
    return buffer.getvalue()


def _mp3(name: str) -> bytes:
    """Return a title, and ten frames of silence."""
    title = b"\x00" + name.encode()
    frame = b"TIT2" + struct.pack(">I", len(title)) + bytes(2) + title
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, len(frame) >> 7, len(frame) & 127]) + frame
    return tag + (b"\xff\xfb\x90\x64" + bytes(413)) * 10


def _mp4(name: str) -> bytes:
    """Return an MP4 without tracks."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I", 8 + len(body)) + kind + body

    movie_header = struct.pack(">IIIII", 0, 0, 0, 1000, 1000) + bytes(80)
    return (
        box(b"ftyp", b"isom", struct.pack(">I", 512), b"isommp41")
        + box(b"moov", box(b"mvhd", movie_header))
        + box(b"mdat", name.encode(), sha256(name.encode()).digest() * 64)
    )


def _txt(name: str) -> bytes:
    return f"{name}\n".encode()


_MAKERS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "png": _png,
    "jpg": _jpg,
    "webp": _webp,
    "gif": _gif,
    "wav": _wav,
    "mp3": _mp3,
    "mp4": _mp4,
    "txt": _txt,
}


TEXT: Final = ("Once", " upon", " a", " time", " there", " was", " a", " ledger", ".")


def file_name(prediction_id: str, n: int) -> str:
    """Return the name of the n-th output of a prediction, for `render`."""
    return f"{prediction_id}/{n}"


def shape_output(shape: str, prediction_id: str, urls: list[str], extension: str) -> Any:
    """Return an output of a shape, with the given files.

    Raises:
        KeyError: There is no such shape.
    """
    return SHAPES[shape](prediction_id, urls, extension)


def _data_uri(prediction_id: str, n: int, extension: str) -> str:
    content = render(file_name(prediction_id, n), extension)
    kind = CONTENT_TYPES[extension].partition(";")[0]
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


SHAPES: Final[Mapping[str, Callable[[str, list[str], str], Any]]] = {
    "list": lambda _, urls, __: urls,
    "string": lambda _, urls, __: urls[0] if urls else None,
    "dict": lambda _, urls, __: {"file": urls[0] if urls else None, "text": "".join(TEXT)},
    "nested": lambda _, urls, __: {
        "results": [{"image": {"url": url}, "score": 0.5} for url in urls],
        "meta": {"flags": [None, True]},
    },
    "data_uri": lambda name, _, extension: _data_uri(name, 0, extension),
    "data_uris": lambda name, urls, extension: [
        _data_uri(name, n, extension) for n in range(len(urls))
    ],
    "text": lambda _, __, ___: "".join(TEXT),
    "tokens": lambda _, __, ___: list(TEXT),
    "null": lambda _, __, ___: None,
    "empty_list": lambda _, __, ___: [],
    "empty_string": lambda _, __, ___: "",
    "number": lambda _, __, ___: 0.5,
    "json": lambda _, __, ___: {"labels": ["cat", "dog"], "scores": [0.9, 0.1]},
    "dead_links": lambda _, urls, __: [f"{url}.gone" for url in urls],
}
