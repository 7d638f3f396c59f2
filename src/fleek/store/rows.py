"""Between values and rows: the columns of a table are derived from the fields of its value.

A field and its column have one name and one type, except that an enum is stored as its value, a
duration in seconds (``timeout`` as ``timeout_seconds``), an error in two columns
(``error_code`` and ``error_message``) and a webhook as a document. A test compares the result with the tables.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from operator import attrgetter, itemgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

from fleek.domain.attempt import Attempt
from fleek.domain.copies import filler
from fleek.domain.inputs import InputKind, MediaInput
from fleek.domain.job import BatchId, Change, Job, JobError, JobFilter, JobWebhook, Status
from fleek.domain.media import Media
from fleek.domain.routing import Route, RouteOrder, RouteRequest, Routing, Tried
from fleek.domain.text import strip_unstorable

Values = dict[str, Any]
FIRST_ID: Final = UUID(int=0)  # no row has these ids
LAST_ID: Final = UUID(int=2**128 - 1)
FILTER_TIMES: Final = ("created_after", "created_before")
Convert = Callable[[Any], Any]
Key = TypeVar("Key")
Value = TypeVar("Value")


class Codec(NamedTuple):
    """How a field is stored that is not stored as it is; None is NULL in all of its columns."""

    columns: Mapping[str, Callable[[Any], Any]]  # how each of them is encoded
    decode: Callable[..., Any]  # takes what each column holds, of which the first is not NULL
    absent: Any = None  # what NULL in the first one means


class Columns:
    """The columns of some fields: `plain` ones by field, one each and stored as it is, and `coded` ones.

    The plain ones, at least two, are taken all at once: one by one, to write and to read a job takes
    twice as long.
    """

    def __init__(self, plain: Mapping[str, str], coded: Mapping[str, Codec]) -> None:
        self._fields, self._columns, self._coded = tuple(plain), tuple(plain.values()), coded
        self._of_value: Callable[[Any], Sequence[Any]] = attrgetter(*self._fields)
        self._of_row: Callable[[Any], Sequence[Any]] = itemgetter(*self._columns)

    def names(self) -> tuple[str, ...]:
        """Return the names of all columns."""
        coded = (column for codec in self._coded.values() for column in codec.columns)
        return (*self._columns, *coded)

    def encode(self, value: Any) -> Values:
        """Return what each column holds of a value."""
        encoded = dict(zip(self._columns, self._of_value(value), strict=True))
        for field, codec in self._coded.items():
            held = getattr(value, field)
            for column, encode in codec.columns.items():
                encoded[column] = None if held is None else encode(held)
        return encoded

    def decode(self, row: Mapping[Any, Any]) -> Values:
        """Return what each field holds of a row."""
        fields = dict(zip(self._fields, self._of_row(row), strict=True))
        for field, codec in self._coded.items():
            held = [row[column] for column in codec.columns]
            fields[field] = codec.absent if held[0] is None else codec.decode(*held)
        return fields

    def sources(self) -> dict[str, tuple[str, Convert | None]]:
        """Return of each column its field, and how this is encoded; None: it is stored as it is."""
        found: dict[str, tuple[str, Convert | None]] = {
            column: (field, None)
            for field, column in zip(self._fields, self._columns, strict=True)
        }
        for field, codec in self._coded.items():
            found |= {column: (field, encode) for column, encode in codec.columns.items()}
        return found

    def reader(
        self, kind: type, columns: Sequence[str], decoders: Sequence[Convert | None]
    ) -> Any:
        """Return what makes a value of a driver's row; see `Mapper.reader`."""
        place = {name: number for number, name in enumerate(columns)}
        fields = (*self._fields, *self._coded)
        first = (*self._columns, *(next(iter(codec.columns)) for codec in self._coded.values()))
        steps: list[tuple[int, Convert, Any]] = []
        several: list[tuple[int, Callable[..., Any], tuple[int, ...]]] = []
        for number, (field, column) in enumerate(zip(fields, first, strict=True)):
            decode, codec = decoders[place[column]], self._coded.get(field)
            if codec is None and decode is not None:
                steps.append((number, decode, None))
            elif codec is not None and len(codec.columns) == 1:
                steps.append((number, after(decode, codec.decode), codec.absent))
            elif codec is not None:
                assert all(decoders[place[name]] is None for name in codec.columns)
                several.append((number, codec.decode, tuple(place[c] for c in codec.columns)))
        pick: Convert = itemgetter(*(place[name] for name in first))
        fill = filler(kind, fields)

        def read(row: Sequence[Any]) -> Any:
            """Convert a row, in which None stands for an absent value."""
            held = [*pick(row)]
            for number, convert, absent in steps:
                one = held[number]
                held[number] = absent if one is None else convert(one)
            for number, together, places in several:
                if held[number] is not None:
                    held[number] = together(*[row[place] for place in places])
            return fill(held)

        return read


def after(first: Convert | None, second: Convert) -> Convert:
    """Return the second step on what the first one returns, if there is a first one."""
    if first is None:
        return second
    before = first  # of which the type checker knows that it is there
    return lambda value: second(before(value))


class Mapper(Generic[Value]):
    """Writes a frozen dataclass as the columns of its row, and reads it from them.

    Args:
        kind: The dataclass.
        fixed: The fields that never change once the row is inserted.
        renamed: The columns of those fields whose column has another name.
    """

    def __init__(
        self, kind: type[Value], *, fixed: Collection[str] = (), renamed: Mapping[str, str] = {}
    ) -> None:
        self._kind = kind
        self._all = _columns(kind, without=(), renamed=renamed)
        self._changing = _columns(kind, without=fixed, renamed=renamed)
        self.columns = self._all.names()
        self.changing = self._changing.names()

    def values(self, value: Value) -> Values:
        """Return every column of a value."""
        return self._all.encode(value)

    def changes(self, value: Value) -> Values:
        """Return the columns that may change after the row was inserted."""
        return self._changing.encode(value)

    def read(self, row: Mapping[Any, Any]) -> Value:
        """Return the value of a row."""
        return self._kind(**self._all.decode(row))

    def sources(self) -> Mapping[str, tuple[str, Convert | None]]:
        """Return of each column its field, and how it is encoded; None: it is stored as it is."""
        return self._all.sources()

    def reader(
        self, columns: Sequence[str], decoders: Sequence[Convert | None]
    ) -> Callable[[Sequence[Any]], Value]:
        """Return what makes a value of a driver's row, in one step.

        `columns` are those of the row, in which there may be others; `decoders` what the types of
        these need, which are not called for NULL.
        """
        read: Callable[[Sequence[Any]], Value] = self._all.reader(self._kind, columns, decoders)
        return read


def _columns(kind: type, *, without: Collection[str], renamed: Mapping[str, str]) -> Columns:
    plain: dict[str, str] = {}
    coded: dict[str, Codec] = {}
    types = get_type_hints(kind)
    for name in (field.name for field in dataclasses.fields(kind) if field.name not in without):
        column = renamed.get(name, name)
        if (codec := _codec(column, types[name])) is None:
            plain[name] = column
        else:
            coded[name] = codec
    return Columns(plain, coded)


def _codec(column: str, hint: Any) -> Codec | None:
    """Return how a field of this type, or of it and None, is stored; None: as it is."""
    if get_origin(hint) in {tuple, frozenset}:
        return _list_codec(column, hint)
    types = [kind for kind in get_args(hint) if kind is not type(None)]
    kind = types[0] if len(types) == 1 else hint
    if kind is JobError:
        return Codec({f"{column}_code": _code, f"{column}_message": _message}, JobError)
    if kind in DOCUMENTS:
        encode, decode = DOCUMENTS[kind]
        return Codec({column: encode}, decode)
    if kind is timedelta:
        return Codec({f"{column}_seconds": timedelta.total_seconds}, _seconds)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Codec({column: attrgetter("value")}, _Members(kind).__getitem__)
    return None


class _Members(dict[Any, Enum]):
    """The members of an enum by their values, found in a third of the time that the enum takes."""

    def __init__(self, kind: type[Enum]) -> None:
        super().__init__({member.value: member for member in kind})
        self._kind = kind

    def __missing__(self, stored: Any) -> Enum:
        """Raise the enum's own error, which names both: a newer release has more members."""
        return self._kind(stored)


def _list_codec(column: str, hint: Any) -> Codec:
    """Return how a tuple of texts or media inputs, or a set of members of an enum, is stored: as a list."""
    if get_args(hint)[0] is MediaInput:
        return Codec({column: _inputs_column}, _inputs, absent=())
    if get_origin(hint) is tuple:
        return Codec({column: list}, tuple, absent=())
    member = get_args(hint)[0]
    return Codec({column: sorted}, lambda stored: frozenset(map(member, stored)))


def _filter_column(wanted: JobFilter) -> Values:
    values = {name: getattr(wanted, name) for name in wanted.__slots__}
    for name in FILTER_TIMES:
        values[name] = values[name] and values[name].isoformat()
    if wanted.batch_id is None:
        del values["batch_id"]  # a release before it reads this, too
    else:
        values["batch_id"] = str(wanted.batch_id)
    return {**values, "statuses": sorted(wanted.statuses)}


def _filter(stored: Values) -> JobFilter:
    times = {name: stored[name] and datetime.fromisoformat(stored[name]) for name in FILTER_TIMES}
    batch_id = stored.get("batch_id")
    return JobFilter(
        **{
            **stored,
            **times,
            "statuses": frozenset(map(Status, stored["statuses"])),
            "batch_id": batch_id and BatchId(UUID(batch_id)),
        }
    )


def _inputs_column(inputs: tuple[MediaInput, ...]) -> list[Values] | None:
    return [dataclasses.asdict(each) for each in inputs] or None


def _inputs(stored: Sequence[Values]) -> tuple[MediaInput, ...]:
    return tuple(MediaInput(**{**each, "kind": InputKind(each["kind"])}) for each in stored)


def _code(error: JobError) -> str:
    return error.code


def _message(error: JobError) -> str:
    return strip_unstorable(error.message)


def _seconds(stored: float) -> timedelta:
    return timedelta(seconds=stored)


def _webhook(stored: Values) -> JobWebhook:
    return JobWebhook(stored["url"], tuple(stored["events"]), form=stored.get("form"))


def _routing(stored: Values) -> Routing:
    asked, routes = stored["request"], stored["routes"]
    order, models = RouteOrder(asked["order"]), tuple(asked["models"])
    return Routing(
        request=RouteRequest(**{**asked, "order": order, "models": models}),
        routes=tuple(
            Route(**{**route, "inputs": _inputs(route["inputs"] or ())}) for route in routes
        ),
        current=stored["current"],
        tried=tuple(Tried(**tried) for tried in stored["tried"]),
    )


DOCUMENTS: Final[Mapping[type, tuple[Convert, Convert]]] = {
    JobWebhook: (dataclasses.asdict, _webhook),
    JobFilter: (_filter_column, _filter),
    Routing: (dataclasses.asdict, _routing),
}
"""How values are stored that are one JSON document each."""

JOB: Final = Mapper(
    Job,
    fixed={
        *("id", "tenant_id", "provider", "model", "prompt", "input", "metadata", "priority"),
        *("max_attempts", "max_cost", "deadline", "deadline_after", "created_at", "retry_of"),
        *("reused_from", "content", "batch_id", "batch_index"),
        *("inputs", "on_input_cancel", "routing"),
        *("key_id", "webhook"),
        *("favourite", "tags"),
    },
)
EDITABLE: Final = ("favourite", "tags", "metadata")
"""Fields of a job that its caller may change, which is seldom: no step of a job writes them."""

ROUTED: Final = ("provider", "model", "input", "inputs", "routing", "content")
"""Fields of a job that change when it goes on at another provider, which is seldom, too."""

ATTEMPT: Final = Mapper(
    Attempt,
    fixed={
        *("id", "job_id", "number", "provider", "model", "nonce", "request_hash"),
        *("submitted_at", "provider_time", "timeout", "worker_id", "inputs"),
        *("estimate", "charged_on"),
    },
    renamed={"number": "n"},
)
MEDIA: Final = Mapper(Media)


def tag_values(job: Job) -> list[Values]:
    """Return the rows of a job's tags."""
    return [{"tenant_id": job.tenant_id, "tag": tag, "job_id": job.id} for tag in job.tags]


def event_values(change: Change, *, seq: int, at: datetime) -> Values:
    """Return the row of a change's line in the job's history."""
    return {
        "job_id": change.job.id,
        "tenant_id": change.job.tenant_id,
        "seq": seq,
        "type": change.event,
        "data": {
            key: strip_unstorable(value) if isinstance(value, str) else value
            for key, value in change.data.items()
        },
        "at": at,
    }


def padded(ids: Sequence[Key]) -> Sequence[Key]:
    """Repeat the last id, or other key, until their number is a power of two.

    So ``IN`` has a dozen forms instead of hundreds, and each stays prepared.
    """
    size = 1 << max(len(ids) - 1, 0).bit_length()
    return [*ids, *[ids[-1]] * (size - len(ids))]


def insert_absent(kind: str, table: Any) -> Any:
    """Return an insert that leaves a row as it is which is there; `kind` of `Database`."""
    if kind == "sqlite":
        from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415 - loaded if it is used
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]  # noqa: PLC0415
    return insert(table).on_conflict_do_nothing()
