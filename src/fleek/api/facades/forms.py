"""Forms with files and fields (``multipart/form-data``), read while they come in."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import field
from typing import Final

from fastapi.requests import Request

from fleek.api.admission import UNTIMED
from fleek.api.multipart import MAX_HEAD, Form, boundary_of
from fleek.api.request_body import body_parts
from fleek.domain.errors import InvalidInput, TooLarge, Unreadable
from fleek.domain.uploads import Upload
from fleek.domain.values import dataclass

MAX_PARTS: Final = 64
MAX_FIELD: Final = 65_536  # bytes
ATTRIBUTE: Final = re.compile(rb';\s*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)

Take = Callable[[AsyncIterator[bytes]], Awaitable[Upload]]
"""Stores a file as it comes in."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A file of a form."""

    name: str  # of the field
    filename: str
    upload: Upload


@dataclass(frozen=True, slots=True)
class ReadForm:
    """What a form holds, in its order."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[Sent] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Return the value of a field; None: it is not there."""
        return next((value for key, value in self.fields if key == name), None)


async def read_form(request: Request, take: Take, *, files: frozenset[str]) -> ReadForm:
    """Read a form; `files` are the names of the fields whose content is stored.

    Raises:
        Unreadable: The body is not a form.
        InvalidInput: It has too many parts.
        TooLarge: A field is too long.
    """
    request.scope[UNTIMED] = True
    kinds = request.headers.getlist("content-type")
    boundary = boundary_of(kinds[0]) if len(kinds) == 1 else None
    if boundary is None:
        raise Unreadable("the body must be sent with Content-Type: multipart/form-data")
    form, found = Form(body_parts(request)), ReadForm()
    await form.skip(b"--" + boundary, most=MAX_HEAD)
    while not await form.starts_with(b"--"):
        if len(found.fields) + len(found.files) == MAX_PARTS:
            raise InvalidInput(f"a form has at most {MAX_PARTS} parts", code="too_many_parts")
        await form.skip(b"\r\n", most=MAX_HEAD)
        head = await form.head()
        named = {key.lower(): value for key, value in ATTRIBUTE.findall(head)}
        name = named.get(b"name", b"").decode("utf-8", "replace")
        content = form.until(b"\r\n--" + boundary)
        if name in files:
            filename = named.get(b"filename", b"").decode("utf-8", "replace")
            found.files.append(Sent(name, filename, await take(content)))
        else:
            found.fields.append((name, await _text(content)))
    await form.exhaust()
    return found


async def _text(content: AsyncIterator[bytes]) -> str:
    data = bytearray()
    async for chunk in content:
        data += chunk
        if len(data) > MAX_FIELD:
            raise TooLarge(f"a field of a form has at most {MAX_FIELD} bytes")
    return data.decode("utf-8", "replace")
