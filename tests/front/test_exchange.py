"""A response that is whole is written at once, and looks like any other one."""

import asyncio
import json
import logging
import re
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from fleek.api.direct import WHOLE
from fleek.front.exchange import Exchange
from in_process_service import Serving


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written.append(bytes(data))

    def close(self) -> None:
        """Keep that, too."""
        self.written.append(b"closed")


def exchange(transport: Transport, *, keep_alive: bool = True) -> Exchange:
    """Return an exchange whose request has come."""
    return Exchange(
        scope={"method": "GET"},  # type: ignore[typeddict-item]  # all that it looks at
        transport=transport,
        flow=FlowControl(transport),
        logger=logging.getLogger(__name__),
        access_logger=logging.getLogger(__name__),
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )


def start(*fields: tuple[bytes, bytes], **whole: bytes) -> dict[str, Any]:
    """Return the message that begins a response, perhaps with all of its body."""
    return {"type": "http.response.start", "status": 200, "headers": list(fields), **whole}


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_a_whole_response_has_the_bytes_of_one_in_parts(*, keep_alive: bool) -> None:
    """Only the number of writes differs."""
    fields = (b"content-length", b"2"), (b"x-request-id", b"a")
    parts, whole = Transport(), Transport()

    in_parts = exchange(parts, keep_alive=keep_alive)
    await in_parts.send(start(*fields))
    await in_parts.send({"type": "http.response.body", "body": b"{}"})
    at_once = exchange(whole, keep_alive=keep_alive)
    await at_once.send(start(*fields, **{WHOLE: b"{}"}))

    ends = [] if keep_alive else [b"closed"]
    assert whole.written == [b"".join(parts.written[:2]), *ends]
    assert at_once.response_complete


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
async def test_a_header_with_a_line_break_is_not_sent(value: bytes) -> None:
    """Its rest would be read as another header, or as the response to another request."""
    transport = Transport()

    with pytest.raises(RuntimeError, match="invalid header"):
        await exchange(transport).send(start((b"x-request-id", value), **{WHOLE: b""}))

    assert transport.written == []


async def test_nothing_is_sent_to_a_caller_who_has_gone() -> None:
    """As the library does with a response in parts."""
    transport = Transport()
    gone = exchange(transport)
    gone.disconnected = True

    await gone.send(start((b"content-length", b"0"), **{WHOLE: b""}))

    assert transport.written == []


@pytest.mark.usefixtures("_full_suite")  # on a socket
async def test_a_job_is_answered_whole_and_its_head_alone(serving: Serving) -> None:
    """On one connection, one request after the other."""
    body = b'{"prompt": "a cat"}'
    head = b"Host: localhost\r\n"
    submit = b"POST /api/v1/generate HTTP/1.1\r\n" + head + b"Content-Type: application/json\r\n"
    last = b"Connection: close\r\n\r\n"
    async with serving() as service:
        answer = await service.exchange(
            submit + b"Content-Length: %d\r\n" % len(body) + last + body
        )
        path = json.loads(answer.data.partition(b"\r\n\r\n")[2])["id"].encode()
        target = b" /api/v1/jobs/" + path + b" HTTP/1.1\r\n" + head
        both = await service.exchange(b"GET" + target + b"\r\n" + b"HEAD" + target + last)

    first, second = re.split(rb"(?<=\})(?=HTTP/1.1)", both.data)
    assert answer.statuses == [201]
    assert both.statuses == [200, 200]
    assert json.loads(first.partition(b"\r\n\r\n")[2])["prompt"] == "a cat"
    assert second.endswith(b"\r\n\r\n")
    assert re.search(rb"content-length: [1-9]", second)
