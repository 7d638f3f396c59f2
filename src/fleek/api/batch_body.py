"""The members of a batch, read one by one from the body of its request.

The body is a file of the spool. It is never in memory as a whole: a member is cut out of the text
where it begins and ends, and then parsed as the body of a single request would be.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleek import strict
from fleek.api.errors import mistakes
from fleek.domain.access import Caller
from fleek.domain.batch import MOST_MEMBERS
from fleek.domain.errors import FieldError, FleekError, InvalidInput, TooLarge, Unreadable
from fleek.domain.job import JobRequest
from fleek.engine.batches import MOST_ERRORS, at_member, refusal
from fleek.schemas import JobCreate

CHUNK: Final = 65_536  # bytes
MOST_AXES: Final = 16
MOST_VALUES: Final = 1000
MARK: Final = re.compile(rb'["\\\[\]{},]')
IN_TEXT: Final = re.compile(rb'["\\]')
LIST_BEGINS: Final = re.compile(rb'[{,]\s*"requests"\s*:\s*\Z')


class BatchForm(BaseModel):
    """The body of a batch besides its list of requests."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    requests: list[Any] | None = None
    request: dict[str, Any] | None = None
    grid: dict[str, list[Any]] | None = Field(default=None, min_length=1, max_length=MOST_AXES)


class BatchBody(NamedTuple):
    """The body of a request, and who sent it."""

    path: Path
    lines: bool  # whether it is JSON Lines
    caller: Caller
    most: int  # bytes of a member

    def members(self) -> Generator[JobRequest]:
        """Give the members in their order.

        Raises:
            Unreadable: It, or a member, is not JSON.
            InvalidInput: Members are not valid, or there are none, or too many.
            TooLarge: A member is too large.
        """
        errors: list[FieldError] = []
        index = -1
        for index, value in enumerate(self._values()):
            if index >= MOST_MEMBERS:
                raise _wrong("too_many_members", f"must have at most {MOST_MEMBERS} members")
            try:
                member = JobCreate.model_validate(value)
            except ValidationError as error:
                invalid = InvalidInput("invalid", errors=mistakes(JobCreate, error))
                errors += at_member(index, invalid)
                if len(errors) >= MOST_ERRORS:
                    break
                continue
            if not errors:
                yield member.to_request(self.caller)
        if errors:
            raise refusal(errors)
        if index < 0:
            raise _wrong("no_members", "must have at least one member")

    def _values(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            if self.lines:
                yield from _parsed(_lines(file, self.most), self.most)
                return
            cutter = Cutter(self.most)
            chunks = iter(lambda: file.read(CHUNK), b"")
            yield from _parsed(
                (part for chunk in chunks for part in cutter.feed(chunk)), self.most
            )
        yield from _of_form(_form(cutter.rest(self.most)))


def _lines(file: Any, most: int) -> Iterator[bytes]:
    while line := file.readline(most + 2):
        if line.strip():
            yield line.rstrip(b"\r\n")


def _parsed(parts: Iterable[bytes], most: int) -> Iterator[Any]:
    for index, part in enumerate(parts):
        if index >= MOST_MEMBERS:
            raise _wrong("too_many_members", f"must have at most {MOST_MEMBERS} members")
        if len(part) > most:
            raise TooLarge(f"requests.{index}: a member must have at most {most} bytes")
        try:
            yield strict.loads(part)
        except Unreadable as error:
            raise Unreadable(f"requests.{index}: {error}") from error


def _form(data: bytes) -> BatchForm:
    value = strict.loads(data)
    for name in value if isinstance(value, Mapping) else ():
        if value[name] is None:
            raise _wrong("invalid", "must not be null: leave it out", at=f"/{name}")
    try:
        return BatchForm.model_validate(value)
    except ValidationError as error:
        raise refusal(mistakes(BatchForm, error)) from error


def _of_form(form: BatchForm) -> Iterator[Any]:
    """Give the members of a grid."""
    if (form.requests is None) == (form.request is None):
        raise _wrong("no_members", "must have either requests, or a request with a grid")
    if form.request is None:
        if form.grid is not None:
            raise _wrong("grid", "belongs to a request, not to requests", at="/grid")
        yield from form.requests or ()
        return
    grid = form.grid or {}
    if prod(map(len, grid.values())) > MOST_MEMBERS:
        raise _wrong("too_many_members", f"must make at most {MOST_MEMBERS} members", at="/grid")
    parameters = form.request.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise _wrong("parameters", "must be an object in a grid", at="/request/parameters")
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        prompt = {"prompt": chosen.pop("prompt")} if "prompt" in chosen else {}
        yield {**form.request, **prompt, "parameters": {**parameters, **chosen}}


def _wrong(code: str, detail: str, *, at: str = "") -> FleekError:
    where = at.removeprefix("/").replace("/", ".") or "body"
    return InvalidInput(f"{where}: {detail}", code=code, errors=[FieldError(at, code, detail)])


class Cutter:
    """Cuts the members out of ``{"requests": [...]}``, and keeps the rest, with an empty list.

    It only follows brackets and texts: whatever else is wrong is found when the parts are parsed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        self._part: bytearray | None = None  # of the member that is being read
        self._number = 0
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the members that end in these bytes."""
        begin = position = 0
        while position < len(data):
            if self._escaped:
                self._escaped, position = False, position + 1
                continue
            found = (IN_TEXT if self._in_text else MARK).search(data, position)
            if found is None:
                break
            position = found.end()
            mark = found.group()
            if self._in_text or mark in b'"\\':
                self._escaped = mark == b"\\"
                self._in_text ^= mark == b'"'
                continue
            if mark in b"[{":
                self._depth += 1
                if self._part is None and self._depth == 2:
                    self._keep(data[begin : position - 1])
                    is_list = mark == b"[" and LIST_BEGINS.search(self._rest)
                    self._keep(mark)
                    begin = position
                    self._part = bytearray() if is_list else None
                continue
            ends = mark in b"]}"
            if self._part is not None and self._depth == 2:
                self._keep(data[begin : position - 1])
                begin = position - 1 if ends else position
                yield from self._cut(last=ends)
            self._depth -= ends
        self._keep(data[begin:])

    def rest(self, most: int) -> bytes:
        """Return the body with an empty list of requests."""
        if len(self._rest) > most:
            raise TooLarge(f"the body besides its requests must have at most {most} bytes")
        return bytes(self._rest)

    def _keep(self, data: bytes) -> None:
        held = self._rest if self._part is None else self._part
        if len(held) <= self._most:  # of what is too large, so much that it is seen
            held += data

    def _cut(self, *, last: bool) -> Iterator[bytes]:
        part = bytes(self._part or b"").strip()
        self._part = None if last else bytearray()
        if part or self._number or not last:  # not of an empty list
            self._number += 1
            yield part or b"?"  # nothing between two commas is not JSON
