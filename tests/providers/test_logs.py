"""Logs of any length do not prevent reading the rest of a response."""

import gzip
import json
import zlib
from typing import Any

import pytest

from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.domain.media import Output
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.providers.base import Succeeded
from fleek.providers.cog.wire import Wire
from fleek.providers.http import Api, open_api
from fleek.providers.logs import KEPT, LogFilter, TooLong, body_without_logs
from fleek.providers.replicate.poller import MAX_CALLS, Poller, Reads, poll_list
from fleek.providers.replicate.wire import LARGE
from listening import listening
from network import FakeNetwork, respond

LINE = 'step "1" \\ of 9: \u732b\n'
LONG = LINE * 40_000
ENDED: dict[str, Any] = {"id": "abc", "status": "succeeded", "output": {"logs": LONG[:9000]}}
HOLDS = (Output(text=json.dumps(ENDED["output"], ensure_ascii=False)),)


def filtered(body: bytes, step: int) -> bytes:
    """Return a body without its logs; it arrives in chunks of this size."""
    logs = LogFilter()
    parts = [logs.feed(body[at : at + step]) for at in range(0, len(body), step)]
    return b"".join(parts) + logs.end()


@pytest.mark.parametrize("step", [61, 4096, 65_536])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_only_the_middle_of_logs_is_removed(*, ascii_only: bool, step: int) -> None:
    """In a prediction and in a list, and nowhere else."""
    one = {"logs": LONG, **ENDED, "deep": [{"logs": LONG}]}
    page = {"next": None, "results": [one, {"logs": None}, {"logs": "short"}, one]}

    parsed = json.loads(filtered(json.dumps(one, ensure_ascii=ascii_only).encode(), step))
    listed = json.loads(filtered(json.dumps(page, ensure_ascii=ascii_only).encode(), step))

    for shown in (parsed, listed["results"][0], listed["results"][3]):
        logs = shown.pop("logs")
        assert len(logs.encode()) < 4 * KEPT
        assert logs.startswith(LINE)
        assert logs.endswith(LINE)
        assert shown == {**ENDED, "deep": [{"logs": LONG}]}
    assert listed["results"][1:3] == [{"logs": None}, {"logs": "short"}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[[[[",
        b'"',
        b'{"logs":"abc\\',
        b"}}}}",
        b"]",
        b"nonsense",
        b'{"logs":1}',
        b"\\",
    ],
)
def test_invalid_json_passes_unchanged(body: bytes) -> None:
    """The parser refuses it later."""
    assert filtered(body, 1) == body


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_long_body_without_logs_is_refused() -> None:
    """The size is counted as it arrives."""

    async def pour() -> Any:
        while True:
            yield b'["words", ' * 10_000

    with pytest.raises(TooLong):
        await body_without_logs(pour(), most=1_000_000)


def answering(body: bytes) -> Any:
    """Return a server that answers every request with this body."""

    async def visit(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return listening(visit)


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_prediction_with_endless_logs_is_read() -> None:
    """Its output is paid for."""
    body = json.dumps({"logs": "x" * (LARGE + 4_000_000), **ENDED}).encode()
    async with answering(body) as url:
        api = open_api(url)
        seen = await Poller(api, clock=lambda: 0.0).poll([PredictionId("abc")])
        await api.close()

    assert seen[PredictionId("abc")].outcome == Succeeded(HOLDS)


@pytest.mark.usefixtures("_full_suite")
async def test_endless_logs_do_not_hide_the_rest_of_a_list() -> None:
    """Each row may have logs of any length."""
    rows = [{**ENDED, "id": f"p{n}", "logs": "x\n" * (LARGE // 3)} for n in range(3)]
    async with answering(json.dumps({"next": None, "results": rows}).encode()) as url:
        api = open_api(url)
        listed = poll_list(Reads(api), [PredictionId(f"p{n}") for n in range(3)])
        seen = [found async for found in listed]
        await api.close()

    assert [{one.outcome for one in found.values()} for found in seen] == [{Succeeded(HOLDS)}]
    assert len(seen[0]) == 3


async def test_what_was_read_before_a_page_failed_counts() -> None:
    """A page of a long list may fail, and the next poll would begin with the same pages."""
    rows = [{**ENDED, "id": f"p{n}"} for n in range(3)]
    link = "https://example.org/predictions?cursor=again"  # the second page links to itself
    async with answering(json.dumps({"next": link, "results": rows}).encode()) as url:
        api = open_api(url)
        ids = [PredictionId(f"p{n}") for n in range(MAX_CALLS + 1)]
        seen = await Poller(api, clock=lambda: 0.0).poll(ids)
        await api.close()

    assert set(seen) == set(ids[:3])


async def test_a_page_too_long_without_logs_is_unavailable() -> None:
    """It is requested again."""
    body = json.dumps({"id": "abc", "output": "x" * (LARGE + 1)}).encode()
    async with answering(body) as url:
        api = open_api(url)
        with pytest.raises(ProviderUnavailable):
            await Poller(api, clock=lambda: 0.0).poll([PredictionId("abc")])
        await api.close()


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
async def test_a_cog_response_is_read_with_logs_and_compression(coding: str) -> None:
    """The compression was not requested."""
    prediction_id = PredictionId("0" * 32)
    body = json.dumps({"logs": "x" * 5_000_000, **ENDED, "id": prediction_id}).encode()
    pack: Any = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[coding]
    network = FakeNetwork(lambda _: respond(200, pack(body), content_encoding=coding))
    api = Api("https://cog.test", Client(Policy(), network))

    seen = await Wire(api).start(prediction_id, {"input": {}})

    assert seen.outcome == Succeeded(HOLDS)
