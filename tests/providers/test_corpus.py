"""Outputs of models and responses of hosts, read by the readers of Replicate and Cog.

Each row has the expected bytes, or the expected kind of failure. New cases become rows here.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

import pytest

from fleek.domain.errors import ErrorPage, OutputBroken, OutputUnsafe, ProviderError
from fleek.domain.media import Output
from fleek.emulator.media import render
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client, Response
from fleek.providers.base import Prediction, Succeeded
from fleek.providers.cog.wire import parse_prediction
from fleek.providers.download import Limits, read_output
from fleek.providers.outputs import makes_words
from fleek.providers.replicate.wire import read_prediction
from network import FakeNetwork, respond

HOST: Final = "https://files.example.com"
POLICY: Final = Policy()
LIMITS: Final = Limits(size=2_000_000)

PNG, JPG, GIF, WEBP, WAV, MP4 = (
    render("corpus", ending) for ending in ("png", "jpg", "gif", "webp", "wav", "mp4")
)
GLB: Final = b"glTF\2\0\0\0" + (24).to_bytes(4, "little") + bytes(12)
SVG: Final = b"<svg xmlns='http://www.w3.org/2000/svg'><path fill='#fff'/></svg>"
B64: Final = base64.b64encode(PNG).decode()


def _predicted(prediction: Prediction | None) -> tuple[Output, ...]:
    assert prediction is not None
    assert isinstance(prediction.outcome, Succeeded)
    return prediction.outcome.outputs


READERS: Final[Mapping[str, Callable[[Any], tuple[Output, ...]]]] = {
    "replicate": lambda value: _predicted(
        read_prediction({"id": "abc", "status": "succeeded", "output": value})
    ),
    "cog": lambda value: _predicted(
        parse_prediction(
            json.dumps({"id": "0" * 32, "status": "succeeded", "output": value}).encode()
        )
    ),
}


def delivery(
    body: bytes, *, status: int = 200, prediction: bool = True, step: int = 1000, **headers: str
) -> Response:
    """Return a host's response; `sized` is whether it has a Content-Length."""
    parts = (body[at : at + step] for at in range(0, len(body), step))
    length = {"content_length": str(len(body))} if prediction else {}
    return respond(status, *parts, **length, **headers)


class Host(FakeNetwork):
    """Stand in for every host: one response, and a record of the requested addresses."""

    def __init__(self, answer: Response | None = None) -> None:
        super().__init__(lambda _: answer or delivery(PNG))

    @property
    def requested(self) -> list[str]:
        """Return the addresses, without their scheme."""
        return [f"{sent.url.raw_authority}{sent.url.raw_path_qs}" for sent in self.requests]


async def stored(output: Output, host: Host) -> bytes:
    """Return the bytes that would be stored of an output."""
    if output.text is not None:
        return str(output.text).encode()
    client = Client(POLICY, host)
    return b"".join([part async for part in read_output(client, output, LIMITS)])


def _wrapped(text: str, width: int, end: str) -> str:
    return end.join(text[at : at + width] for at in range(0, len(text), width))


DATA_URIS: Final[list[tuple[str, bytes]]] = [
    *((f"{scheme}image/png;base64,{B64}", PNG) for scheme in ("data:", "DATA:", "Data:")),
    *((f"{blank}data:image/png;base64,{B64}{blank}", PNG) for blank in (" ", "\n", "\t", "\r\n")),
    *(
        (f"data:image/png;{word},{B64}", PNG)
        for word in ("BASE64", "Base64", " base64", "base64 ")
    ),
    *(
        (f"data:{head};base64,{B64}", PNG)
        for head in (
            *("", "png", "image/png;charset=utf-8", "image/png; charset=utf-8", "image/png "),
            *('image/png;name="a b.png"', "image/png;name=a%20b.png", "image/png;name=a b.png"),
            *('image/png;name="a,b.png"', "image/png;charset=", "image/png;;", "IMAGE/PNG"),
            *("application/octet-stream", "image/vnd.x+y", "image/*", "image/png;v=1;w=2"),
        )
    ),
    (f"data:base64,{B64}", PNG),
    (f"data:image/png;base64;name=x,{B64}", PNG),
    *(
        (f"data:image/png;base64,{_wrapped(B64, width, end)}", PNG)
        for width in (1, 4, 64, 76)
        for end in ("\n", "\r\n", " ", "\t", "%0A", "%0D%0A", "\n\n")
    ),
    (f"data:image/png;base64,{B64.rstrip('=')}", PNG),
    (f"data:image/png;base64,{B64}==", PNG),
    (f"data:image/png;base64, {B64}", PNG),
    (f"data:image/png;base64,{B64} ", PNG),
    (f"data:image/png;base64,{B64}#fragment", PNG),
    (f"data:image/png;base64,{quote(B64, safe='')}", PNG),
    (f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode()}", PNG),
    (f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode().rstrip('=')}", PNG),
    *(
        (
            f"data:;base64,{base64.urlsafe_b64encode(bytes([0xFB, 0xFF, n])).decode()}",
            bytes([0xFB, 0xFF, n]),
        )
        for n in range(3)
    ),
    *(
        (f"data:text/plain;base64,{base64.b64encode(b'x' * n).decode().rstrip('=')}", b"x" * n)
        for n in range(1, 7)
    ),
    *(
        (f"data:image/svg+xml{parameters},{SVG.decode()}", SVG)
        for parameters in (
            "",
            ";utf8",
            ";utf-8",
            ";charset=utf-8",
            ";charset=UTF8",
            "; charset=utf-8",
        )
    ),
    (f"data:image/svg+xml;charset=utf-8,{quote(SVG.decode())}", SVG),
    (f"data:image/svg+xml;base64,{base64.b64encode(SVG).decode()}", SVG),
    ("data:,hello%20you", b"hello you"),
    ("data:text/plain,hello you", b"hello you"),
    ("data:text/plain,a+b", b"a+b"),
    ("data:text/plain,50%", b"50%"),
    ("data:text/plain,%zz", b"%zz"),
    ("data:text/plain,a,b", b"a,b"),
    ("data:text/plain,x#y", b"x"),
    ("data:text/plain,x%23y", b"x#y"),
    ("data:text/plain;charset=utf-8,gr\u00fc\u00df", "gr\u00fc\u00df".encode()),
    ("data:text/plain,%C3%BC", "\u00fc".encode()),
    ("data:text/plain,\u732b", "\u732b".encode()),
    ('data:application/json,{"a": 1}', b'{"a": 1}'),
    ("data:text/html,<p>hi</p>", b"<p>hi</p>"),
]

BAD_DATA_URIS: Final = [
    *(
        f"data:image/png;base64,{base64.b64encode(PNG[:cut]).decode()}"
        for cut in (1, 7, 8, 20, 100, len(PNG) - 1)
    ),
    *(
        f"data:image/jpeg;base64,{base64.b64encode(JPG[:cut]).decode()}"
        for cut in (2, 3, 99, len(JPG) - 1)
    ),
    *(
        f"data:video/mp4;base64,{base64.b64encode(MP4[:cut]).decode()}"
        for cut in (12, 40, len(MP4) - 1)
    ),
    *(
        f"data:image/png;base64,{body}"
        for body in ("%%%", "", "    ", "A", "AAAAA", "!!!!", "\u732b")
    ),
    *(
        f"data:image/png;base64,{base64.b64encode(page).decode()}"
        for page in (b"<html>", b"Not found", b"{}")
    ),
    "data:image/png,Access denied",
    "data:image/png;base64",
]

ADDRESSES: Final[list[tuple[str, str]]] = [
    *(
        (f"{blank}{HOST}/a.png", "files.example.com/a.png")
        for blank in (" ", "\n", "\t", "\0", "\x1f", "  \r\n")
    ),
    *((f"{HOST}/a.png{blank}", "files.example.com/a.png") for blank in (" ", "\n", "\r\n", "\0")),
    *(
        (f"{scheme}files.example.com/a.png", "files.example.com/a.png")
        for scheme in (
            "HTTPS://",
            "Https://",
            "https:/",
            "https:",
            "https:///",
            "https:\\\\",
            "https:\\",
            "https:/\\",
        )
    ),
    ("https://FILES.Example.COM/A.png", "files.example.com/A.png"),
    (f"{HOST}:443/a.png", "files.example.com/a.png"),
    (f"{HOST}\\a\\b.png", "files.example.com/a/b.png"),
    (f"{HOST}/a b.png", "files.example.com/a%20b.png"),
    (f"{HOST}/my out/a b.png", "files.example.com/my%20out/a%20b.png"),
    (f"{HOST}/a\tb.png", "files.example.com/ab.png"),
    (f"{HOST}/a\nb.png", "files.example.com/ab.png"),
    (f"{HOST}/./b/../a.png", "files.example.com/a.png"),
    (f"{HOST}/%7Ea.png", "files.example.com/%7Ea.png"),
    (f"{HOST}/a%20b.png", "files.example.com/a%20b.png"),
    (f"{HOST}/\u732b.png", "files.example.com/%E7%8C%AB.png"),
    (f"{HOST}/\u00fc.png?q=\u00e4", "files.example.com/%C3%BC.png?q=%C3%A4"),
    (f"{HOST}/a.png#t=1", "files.example.com/a.png"),
    (
        f"{HOST}/a.png?X-Amz-Signature=a%2Fb&x=1",
        "files.example.com/a.png?X-Amz-Signature=a%2Fb&x=1",
    ),
    (f"{HOST}/a.png?p=\\x", "files.example.com/a.png?p=%5Cx"),
    (f'{HOST}/a"<>.png', "files.example.com/a%22%3C%3E.png"),
    ("https://good.com\\@127.0.0.1\\", "good.com/@127.0.0.1/"),
    (f"{HOST}", "files.example.com/"),
    (f"{HOST}?a.png", "files.example.com/?a.png"),
    ("https://b\u00fccher.example/a.png", "xn--bcher-kva.example/a.png"),
    ("https://\u732b.example.com/a.png", "xn--z7x.example.com/a.png"),
]

NEVER_FETCHED: Final = [
    *("gs://bucket/a.png", "s3://bucket/a.png", "s3://bucket/a b.png", "ftp://example.com/a.png"),
    *(
        "file:///etc/passwd",
        "file:/tmp/a.png",
        "FILE:///a",
        "blob:https://example.com/0-1",
        "ipfs://Qm/a.png",
    ),
    *(
        "//files.example.com/a.png",
        "/tmp/out/a.png",
        "./a.png",
        "../out/a.png",
        "out/a.png",
        "a.png",
        "~/a.png",
    ),
    *(
        "C:\\out\\a.png",
        "az://c/a.png",
        "hf://x/y/a.png",
        "http://files.example.com/a.png",
    ),
    *(
        "https://127.0.0.1/a.png",
        "https://0x7f.1/a.png",
        "https://2130706433/",
        "https://[::1]/a.png",
    ),
    *("https://localhost/a.png", "https:/169.254.169.254/latest/", "https:\\\\10.0.0.1\\a.png"),
    *(
        "https://user:pw@files.example.com/a.png",
        "https://files.example.com:22/a.png",
    ),
    *(
        "https://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
        "https://1.1.1.1/",
        f"{HOST}/{'x' * 3000}.png",
        "https://",
    ),
    *(
        "https://files.example.com./a.png",
        "gopher://x/1",
        "content://media/1",
    ),
]

CONCATENATED: Final = {
    "type": "array",
    "items": {"type": "string"},
    "x-cog-array-type": "iterator",
    "x-cog-array-display": "concatenate",
}


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"type": "string"}, True),
        (CONCATENATED, True),
        ({"type": "string", "format": "uri"}, False),
        ({"type": "array", "items": {"type": "string", "format": "uri"}}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
        ({"type": "object"}, False),
        ({}, False),
        (None, False),
        ([], False),
    ],
)
def test_only_plain_strings_are_text_outputs(*, output: Any, words: bool) -> None:
    """A single string, or one in parts."""
    assert makes_words({"components": {"schemas": {"Output": output}}}) is words
    assert makes_words({"components": output}) is False
    assert makes_words(output) is False


async def test_an_address_is_the_text_of_a_text_model(subtests: pytest.Subtests) -> None:
    """The prompt may have requested one."""

    async def text_model() -> bool:
        return True

    for text in ("a.png", "s3://b/x", "/usr/bin/python", "https://127.0.0.1/"):
        (output,) = READERS["replicate"](text)
        chunks = read_output(Client(POLICY, Host()), output, LIMITS, words=text_model)
        with subtests.test(text=text):
            assert b"".join([part async for part in chunks]) == text.encode()


WORDS: Final = [
    *(
        "once upon a time",
        f"see {HOST}/a.png",
        f"{HOST}/a.png is nice",
        f"{HOST}/a.png and {HOST}/b.png",
    ),
    *(
        "data: that is all",
        "data: a, b, and c",
        "data:image/png is a media type, so they say",
        "and/or",
        "1/2",
    ),
    *(
        "https is a scheme",
        "http: the protocol",
        "javascript:alert(1)",
        "mailto:a@example.com",
        "3.14",
        "e.g. this",
    ),
    *(
        "// a comment",
        "s3://b is an address",
        "a: b",
        "12:30",
        "<p>hi</p>",
        '{"a": 1}',
        "# title",
        "C: is a drive",
    ),
    *(
        "note:this",
        "/",
        ".",
        "..",
        "~",
        "?",
        "I saved it as a.png for you",
        "\u732b",
        "a\nb",
        "  padded  ",
        "text_model",
    ),
]

STRUCTURES: Final[list[tuple[Any, list[bytes]]]] = [
    ({"image": f"{HOST}/a.png", "seed": 3}, [PNG, b'{"image": {"output": 0}, "seed": 3}']),
    ({"image": f"{HOST}/a.png", "nsfw": False}, [PNG, b'{"image": {"output": 0}, "nsfw": false}']),
    (
        {"image": f"{HOST}/a.png", "caption": "a cat"},
        [PNG, b'{"image": {"output": 0}, "caption": "a cat"}'],
    ),
    ({"image": f"{HOST}/a.png", "mask": None}, [PNG]),
    ([f"{HOST}/a.png", f"{HOST}/b.png"], [PNG, PNG]),
    ([f"{HOST}/a.png", 0.5], [PNG, b'[{"output": 0}, 0.5]']),
    ([[f"{HOST}/a.png"], [[f"{HOST}/b.png"]]], [PNG, PNG]),
    (
        [{"url": f"{HOST}/a.png", "name": "a.png"}],
        [PNG, b'[{"url": {"output": 0}, "name": "a.png"}]'],
    ),
    ({"a": {"b": [1, None, True]}}, [b'{"a": {"b": [1, null, true]}}']),
    (["a ", "cat"], [b"a cat"]),
    (["see ", f"{HOST}/a.png", " there"], [f"see {HOST}/a.png there".encode()]),
    (["w"] * 30_000, [b"w" * 30_000]),
    (0, [b"0"]),
    (False, [b"false"]),
    (1.5, [b"1.5"]),
    ({}, []),
    ([None, ""], []),
]


Read = Callable[[Any], tuple[Output, ...]]


@pytest.fixture(params=READERS)
def read(request: pytest.FixtureRequest) -> Read:
    """Return the reader of outputs in a provider's response."""
    return READERS[request.param]


async def test_data_uris_are_read_as_by_browsers(read: Read, subtests: pytest.Subtests) -> None:
    """In any spelling."""
    for uri, content in DATA_URIS:
        with subtests.test(uri=uri):
            (output,) = read(uri)
            assert await stored(output, Host()) == content


async def test_incomplete_data_uris_fail(read: Read, subtests: pytest.Subtests) -> None:
    """Their text is not stored as a result."""
    for uri in BAD_DATA_URIS:
        (output,) = read(uri)
        with subtests.test(uri=uri), pytest.raises(OutputBroken):
            await stored(output, Host())


async def test_addresses_are_read_as_by_browsers(read: Read, subtests: pytest.Subtests) -> None:
    """The checked address is the one that is fetched."""
    for text, requested in ADDRESSES:
        with subtests.test(text=text):
            host = Host()
            (output,) = read(text)
            assert await stored(output, host) == PNG
            assert host.requested == [requested]


async def test_an_unsafe_address_is_not_stored_as_text(
    read: Read, subtests: pytest.Subtests
) -> None:
    """Nor is it opened."""
    for text in NEVER_FETCHED:
        with subtests.test(text=text):
            host = Host()
            (output,) = read(text)
            with pytest.raises(OutputUnsafe):
                await stored(output, host)
            assert host.requested == []


async def test_text_is_stored_as_text(read: Read, subtests: pytest.Subtests) -> None:
    """Also if it contains an address, or starts like one."""
    for text in WORDS:
        with subtests.test(text=text):
            (output,) = read(text)
            assert await stored(output, Host()) == text.encode()


async def test_values_beside_files_are_stored(read: Read, subtests: pytest.Subtests) -> None:
    """They become one more output."""
    for number, (value, contents) in enumerate(STRUCTURES):
        with subtests.test(number=number):
            assert [await stored(output, Host()) for output in read(value)] == contents


PAGES: Final = [
    *(b"<!DOCTYPE html><title>x</title>", b"<html>", b"<HTML><BODY>", b"\n\n  <!doctype HTML>"),
    *(b"\xef\xbb\xbf<html>", b"<!-- cached --><html>", b"<!-- a --><!-- b -->\n<!DOCTYPE html>"),
    *(
        b"<?xml version='1.0'?><!DOCTYPE html><html>",
        "\ufeff<html>".encode("utf-16"),
        b"<?php die();",
    ),
    *("<html>nicht gefunden".encode("utf-16-le"), "<html>".encode("utf-16-be"), b"<head><title>"),
    b"<html><head><title>Just a moment...</title></head>" + b"<!-- pad -->" * 900,
    "<html><title>\u30da\u30fc\u30b8".encode("shift-jis"),
    b"<html><body>Please log in to the hotel's network</body></html>",
]
ERRORS: Final = [
    b"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>NoSuchKey</Code></Error>",
    *(b"<Error><Code>AccessDenied</Code></Error>", b"<s:Fault xmlns:s='x'/>", b"<ErrorResponse/>"),
    *(b'{"error": "gone"}', b'{"detail": "Not found."}', b' {"errors": [{"message": "x"}]}'),
    *(b'{"message": "Forbidden"}', b'{"code": 404, "message": "weg"}', b'[{"error": 1}]'),
    *(
        b'{"success": false, "message": "x"}',
        b'{"error": {"code": 5, "message": "x"}, "status": 5}',
    ),
    *(b'\xef\xbb\xbf{"error": "gone"}', '{"error": "gone"}'.encode("utf-16")),
    *(b"Not found", b"not found\n", b"404 page not found", b"Access Denied", b"Forbidden", b"404"),
    *(
        b"Internal Server Error",
        b"upstream connect error or disconnect/reset",
        b"error code: 1015",
    ),
    *(b"Error: no such file", b"502 Bad Gateway", b"Service Unavailable", b"no healthy upstream"),
    *(
        b"Too Many Requests",
        b"Request has expired",
        b"The requested file was not found",
        b"NoSuchKey",
    ),
    *(b"HTTP/1.1 500", b"Sorry, an error has occurred", "Unauthorized".encode("utf-16")),
]
FOREIGN: Final = ["nicht gefunden", "\u6587\u4ef6\u4e0d\u5b58\u5728", "no existe", "gone fishing"]

FILES: Final[list[tuple[str, str, bytes]]] = [
    ("/page.html", "text/html", b"<!doctype html><title>A poem</title><p>words"),
    ("/page.htm", "text/html", b"<p>words"),
    ("/a.txt", "text/plain", b"once upon a time"),
    ("/a.txt", "text/html", b"once upon a time"),
    ("/a.md", "text/plain", b"<p align=center>words</p>"),
    ("/a.json", "application/json", b'{"labels": ["cat"]}'),
    ("/a.json", "application/json", b'{"error": 0.1, "mean": 2}'),
    ("/a.json", "application/json", b'{"message": "a cat sat"}'),
    ("/a.xml", "application/xml", b"<score-partwise/>"),
    ("/a.svg", "image/svg+xml", SVG),
    ("/a.png", "image/png", SVG),
    ("/a.svg", "image/svg+xml", b"<?xml version='1.0'?><!-- x --><!DOCTYPE svg><svg/>"),
    ("/out", "", b"words of a model"),
    ("/out", "application/json", b'{"a": 1}'),
    ("/out", "text/html", PNG),
    ("/a.png", "text/html", PNG),
    ("/a.png", "text/plain", JPG),
    ("/a.jpg", "", PNG),
    ("/a.obj", "text/plain", b"v 0 0 0\n"),
    ("/a.ply", "", b"ply\nformat ascii 1.0\n"),
    ("/a.gltf", "model/gltf+json", b'{"asset": {"version": "2.0"}}'),
    ("/a.glb", "", GLB),
    ("/a.bin", "", bytes(range(256))),
    ("/a.csv", "text/csv", b"error,code\n1,2\n"),
    ("/a.srt", "", b"1\n00:00:01,000 --> 00:00:02,000\nHi\n"),
    ("/a.mp3", "audio/mpeg", b"ID3\3\0\0\0\0\0\0" + bytes(99)),
]


async def fetched(answer: Response, path: str = "/a.png") -> bytes:
    """Return the bytes that would be stored of a host's response."""
    return await stored(Output(uri=f"{HOST}{path}"), Host(answer))


async def test_an_error_page_is_never_a_result(subtests: pytest.Subtests) -> None:
    """With any path and any Content-Type."""
    for path in ["/a.png", "/a.mp4", "/a.json", "/a.svg", "/a.txt", "/out"]:
        for announced in ["", "text/html", "image/png", "application/octet-stream"]:
            with subtests.test(path=str(path)[:40], announced=str(announced)[:40]):
                for page in [*PAGES, *ERRORS]:
                    with pytest.raises(ErrorPage):
                        await fetched(delivery(page, content_type=announced), path)


async def test_an_error_page_of_a_transforming_proxy_is_not_a_result() -> None:
    """Such a proxy answers with 203."""
    for page in [*PAGES, *ERRORS]:
        with pytest.raises(ErrorPage):
            await fetched(delivery(page, status=203))


@pytest.mark.parametrize("path", ["/a.png", "/a.mp4", "/a.webp", "/a.glb", "/a.PNG", "/x/a.jpeg"])
async def test_text_is_not_stored_as_media(path: str) -> None:
    """In any language and encoding."""
    for words in FOREIGN:
        for encoding in ("utf-8", "utf-16", "gb18030"):
            with pytest.raises(ErrorPage):
                await fetched(delivery(words.encode(encoding)), path)


async def test_a_model_may_return_text_files(subtests: pytest.Subtests) -> None:
    """The path's extension decides, then the Content-Type."""
    for path, announced, content in FILES:
        with subtests.test(path=path, announced=announced, content=content[:20]):
            assert await fetched(delivery(content, content_type=announced), path) == content


MEDIA: Final = {
    "png": PNG,
    "jpg": JPG,
    "gif": GIF,
    "webp": WEBP,
    "wav": WAV,
    "mp4": MP4,
    "glb": GLB,
}
BEHIND: Final = [
    b"\0",
    bytes(4096),
    b"\n",
    b"\r\n\r\n",
    b"\xff" * 99,
    b"trailing words",
    b"<!-- x -->",
    PNG,
]


async def test_trailing_bytes_of_a_file_are_kept(subtests: pytest.Subtests) -> None:
    """Browsers show all of these files."""
    for ending in MEDIA:
        for prediction in [True, False]:
            with subtests.test(ending=str(ending)[:40], prediction=str(prediction)[:40]):
                for behind in BEHIND:
                    content = MEDIA[ending] + behind
                    assert (
                        await fetched(delivery(content, prediction=prediction), f"/a.{ending}")
                        == content
                    )


@pytest.mark.parametrize("ending", MEDIA)
async def test_truncated_files_are_detected(ending: str) -> None:
    """Also if the Content-Length matches."""
    content = MEDIA[ending]
    step = max(len(content) // 40, 1)
    for cut in {1, 2, 3, 4, 7, 8, 12, 20, len(content) - 1, *range(16, len(content), step)}:
        with pytest.raises(ProviderError):
            await fetched(
                delivery(content[:cut], prediction=len(content[:cut]) > 3), f"/a.{ending}"
            )


def _raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


ZIPPED: Final = gzip.compress(PNG)
PACKED: Final[list[tuple[str, bytes]]] = [
    *(
        (name, ZIPPED)
        for name in ("gzip", "GZIP", "x-gzip", " gzip ", "identity, gzip", "gzip,aws-chunked")
    ),
    ("gzip", gzip.compress(PNG[:40]) + gzip.compress(PNG[40:])),
    ("gzip", ZIPPED + bytes(512)),
    ("gzip", ZIPPED + b"trash"),
    ("gzip", PNG),
    ("deflate", zlib.compress(PNG)),
    ("deflate", _raw_deflate(PNG)),
    ("gzip, gzip", gzip.compress(ZIPPED)),
    ("deflate, gzip", gzip.compress(zlib.compress(PNG))),
    ("gzip, deflate", zlib.compress(ZIPPED)),
    *((name, PNG) for name in ("identity", "", "none", "aws-chunked", "binary")),
]
BADLY_PACKED: Final[list[tuple[str, bytes]]] = [
    *(("gzip", ZIPPED[:cut]) for cut in (1, 2, 9, 10, 30, len(ZIPPED) // 2, len(ZIPPED) - 1)),
    ("gzip", ZIPPED[:40] + b"\0\0\0\0" + ZIPPED[44:]),
    ("gzip", gzip.compress(b"<html>")),
    ("gzip", gzip.compress(PNG[:-1])),
    ("gzip", gzip.compress(b"")),
    ("deflate", zlib.compress(PNG)[:-3]),
    ("br", PNG),
    ("zstd", PNG),
    ("gzip, gzip, gzip, gzip, gzip", PNG),
]


@pytest.mark.parametrize("step", [1, 100_000])
async def test_compressed_responses_are_decompressed(step: int, subtests: pytest.Subtests) -> None:
    """Stores send objects as they were stored, whatever the request accepts."""
    for number, (coding, body) in enumerate(PACKED):
        with subtests.test(number=number, coding=coding):
            assert await fetched(delivery(body, content_encoding=coding, step=step)) == PNG


async def test_broken_compression_fails(subtests: pytest.Subtests) -> None:
    """A part of a file is not stored."""
    for number, (coding, body) in enumerate(BADLY_PACKED):
        with subtests.test(number=number, coding=coding), pytest.raises(OutputBroken):
            await fetched(delivery(body, content_encoding=coding))


@pytest.mark.parametrize("layers", [1, 2, 3])
async def test_a_decompression_bomb_is_refused(layers: int) -> None:
    """The size is counted during decompression."""
    bomb = bytes(60_000_000)
    for _ in range(layers):
        bomb = gzip.compress(bomb, 1)

    with pytest.raises((OutputUnsafe, OutputBroken)):
        await fetched(delivery(bomb, content_encoding=", ".join(["gzip"] * layers)))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a.tar.gz", {}),
        ("/a.gz", {"content_type": "application/gzip"}),
        ("/a.tgz", {"content_encoding": "gzip"}),
        ("/out", {"content_type": "application/x-gzip", "content_encoding": "gzip"}),
    ],
)
async def test_a_compressed_file_stays_compressed(path: str, headers: Any) -> None:
    """It is the model's output."""
    assert await fetched(delivery(ZIPPED, **headers), path) == ZIPPED


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        (f"bytes 0-{len(PNG) - 1}/{len(PNG)}", True),
        (f"bytes 0-{len(PNG) - 1}/{len(PNG) + 1}", False),
        (f"bytes 1-{len(PNG)}/{len(PNG) + 1}", False),
        ("", False),
        ("bytes */9", False),
    ],
)
async def test_a_206_response_with_the_whole_file_is_accepted(given: str, *, whole: bool) -> None:
    """Some caches send 206 without a range in the request."""
    answer = delivery(PNG, status=206, content_range=given)
    if whole:
        assert await fetched(answer) == PNG
    else:
        with pytest.raises(ProviderError):
            await fetched(answer)


async def test_other_statuses_are_not_results(subtests: pytest.Subtests) -> None:
    """Whatever the body is."""
    for status in [201, 202, 204, 300, 304, 400, 401, 402, 418, 451, 500, 503, 530]:
        with subtests.test(status=str(status)[:40]), pytest.raises(ProviderError):
            await fetched(delivery(PNG, status=status))


@pytest.mark.parametrize(
    ("location", "requested"),
    [
        (" /b.png ", "files.example.com/b.png"),
        ("/b c.png#x", "files.example.com/b%20c.png"),
        ("/\u00fc.png", "files.example.com/%C3%BC.png"),
        ("b.png", "files.example.com/b.png"),
        ("//cdn.example.com/b.png", "cdn.example.com/b.png"),
        ("HTTPS://cdn.example.com\\b.png", "cdn.example.com/b.png"),
    ],
)
async def test_redirects_are_read_as_by_browsers(location: str, requested: str) -> None:
    """The new address is checked like the first."""
    host = Host()
    given = iter([respond(302, location=location), delivery(PNG)])
    host.respond = lambda _: next(given)

    assert await stored(Output(uri=f"{HOST}/a.png"), host) == PNG
    assert host.requested[1:] == [requested]
