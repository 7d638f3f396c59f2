"""Statements that are made ready once: hot ones, which every job and every request runs.

A statement is written with SQLAlchemy, for both kinds of database. At its first use it becomes the
text for the driver, with what encodes its parameters and what decodes its rows, and is run straight
on the driver's connection: see `fleek.store.driver`. From a value to the parameters of its row, and
from a row to its value, is one step.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sqlalchemy import Dialect, Float
from sqlalchemy.exc import StatementError
from sqlalchemy.sql.compiler import ExpandedState

from fleek.store import driver
from fleek.store.database import Transaction
from fleek.store.rows import Convert, Mapper, after

FLOAT8: Final = 701  # how PostgreSQL calls the type of our columns with a fraction
Value = TypeVar("Value")
Take = Callable[[Any], Sequence[Any]]
Encode = Callable[[Any], Sequence[Any]]
Row = Sequence[Any]


class _Shape(NamedTuple):
    """A query whose lists have certain lengths."""

    sql: str
    places: Sequence[tuple[str, int | None, Convert | None]]
    """Of each parameter: its name, its place if that is a list, and what encodes it."""
    constants: Mapping[str, Any]  # what the caller does not give


class _Kind:
    """A query for one kind of database."""

    def __init__(self, statement: Any, mapper: Mapper[Any] | None, dialect: Dialect) -> None:
        self._compiled = statement.compile(dialect=dialect)
        self._lists = [name for name, bound in self._compiled.binds.items() if bound.expanding]
        self._shapes: dict[tuple[int, ...], _Shape] = {}
        columns = list(getattr(statement, "exported_columns", ()))  # a text has none: not decoded
        decoders = [_decoder(column.type, dialect) for column in columns]
        self.names = [str(getattr(column, "name", "")) for column in columns]
        self.decode = _row_decoder(self.names, decoders, mapper)

    def shape(self, values: Mapping[str, Any]) -> _Shape:
        """Return the query for lists of these lengths."""
        key = tuple([len(values.get(name, ())) for name in self._lists])
        if (found := self._shapes.get(key)) is None:
            found = self._shapes[key] = self._expanded(values)
        return found

    def _expanded(self, values: Mapping[str, Any]) -> _Shape:
        state = self._compiled.construct_expanded_state(dict(values))
        processors = _processors(self._compiled, state)
        lists = {
            one: (name, number)
            for name, several in state.parameter_expansion.items()
            for number, one in enumerate(several)
            if name in values
        }
        places = [
            (*lists.get(name, (name, None)), processors.get(name)) for name in state.positiontup
        ]
        constants = {name: state.parameters[name] for name, _, _ in places if name not in values}
        return _Shape(state.statement, places, constants)


class Query(Generic[Value]):
    """A statement whose rows are wanted.

    Of lists among its parameters there should be few lengths, see `fleek.store.rows.padded`: each
    is a text of its own.
    """

    def __init__(self, statement: Any, mapper: Mapper[Value] | None = None) -> None:
        self.statement = statement
        self._mapper = mapper
        self._kinds: dict[str, _Kind] = {}

    async def rows(self, tx: Transaction, **values: Any) -> list[Any]:
        """Return the rows as tuples; with a mapper, first the value, then the other columns."""
        dialect = _dialect(tx)
        if (kind := self._kinds.get(dialect.name)) is None:
            kind = self._kinds[dialect.name] = _Kind(self.statement, self._mapper, dialect)
        shape = kind.shape(values)
        given = {**values, **shape.constants} if shape.constants else values
        sent: list[Any] = []
        with _encoding(shape.sql):
            for name, place, encode in shape.places:
                value = given[name] if place is None else given[name][place]
                sent.append(value if encode is None or value is None else encode(value))
        return kind.decode(await driver.fetch(tx, shape.sql, tuple(sent)))

    async def dicts(self, tx: Transaction, **values: Any) -> list[dict[str, Any]]:
        """Return the rows by the names of their columns; for queries without a mapper."""
        found = await self.rows(tx, **values)
        names = self._kinds[_dialect(tx).name].names
        return [dict(zip(names, row, strict=True)) for row in found]

    async def values(self, tx: Transaction, **values: Any) -> list[Value]:
        """Return the first item of each row."""
        return [row[0] for row in await self.rows(tx, **values)]

    async def scalar(self, tx: Transaction, **values: Any) -> Any:
        """Return the first item of the first row; None if there is no row."""
        found = await self.rows(tx, **values)
        return found[0][0] if found else None


class Write:
    """A statement that writes one row for each item.

    Args:
        statement: An insert that names no columns, or whatever has parameters.
        columns: Those of such an insert, unless it inserts all of a mapper.
        mapper: Of the values whose columns it writes; without, items are dictionaries.
        extra: Names of parameters behind these; items are tuples then, the value first.
    """

    def __init__(
        self,
        statement: Any,
        *,
        columns: Sequence[str] | None = None,
        mapper: Mapper[Any] | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        self.statement = statement
        self._columns = columns if mapper is None or extra else mapper.columns
        self._sources = None if mapper is None else mapper.sources()
        self._extra = tuple(extra)
        self._kinds: dict[str, tuple[str, Encode]] = {}

    async def run(self, tx: Transaction, items: Iterable[Any]) -> None:
        """Write the rows of these items; without any, nothing happens."""
        dialect = _dialect(tx)
        if (kind := self._kinds.get(dialect.name)) is None:
            kind = self._kinds[dialect.name] = self._made(dialect)
        sql, encode = kind
        with _encoding(sql):
            sent = [encode(item) for item in items]
        if sent:
            await driver.execute_many(tx, sql, sent)

    def _made(self, dialect: Dialect) -> tuple[str, Encode]:
        options = {} if self._columns is None else {"column_keys": list(self._columns)}
        compiled = self.statement.compile(dialect=dialect, for_executemany=True, **options)
        made_here = [*compiled.insert_prefetch, *compiled.update_prefetch]
        assert not made_here  # defaults that SQLAlchemy would add to each row
        state = compiled.construct_expanded_state(dict.fromkeys(compiled.binds))
        names = tuple(state.positiontup)
        constants = {
            name: bound.effective_value
            for name, bound in compiled.binds.items()
            if not bound.required and name not in (self._columns or ())
        }
        found = _processors(compiled, state)
        processors = [found.get(name) for name in names]
        if self._sources is None:
            encode = _encoder(_of_mapping(names, constants), processors)
        else:
            encode = self._of_value(names, processors)
        return state.statement, encode

    def _of_value(self, names: Sequence[str], processors: Sequence[Convert | None]) -> Encode:
        assert self._sources is not None
        own = len(names) - len(self._extra)
        assert tuple(names[own:]) == self._extra
        sources = [self._sources[name] for name in names[:own]]
        steps = [
            processor if codec is None else codec if processor is None else after(codec, processor)
            for (_, codec), processor in zip(sources, processors, strict=False)
        ]
        fields = attrgetter(*(field for field, _ in sources))
        if not self._extra:
            return _encoder(fields, steps)
        return _encoder(lambda item: (*fields(item[0]), *item[1:]), [*steps, *processors[own:]])


def _dialect(tx: Transaction) -> Dialect:
    return tx.dialect


def _processors(compiled: Any, state: ExpandedState) -> Mapping[str, Convert]:
    """Return what encodes each parameter, as its type says, by its name."""
    return {**compiled._bind_processors, **state.processors}  # noqa: SLF001 - each type would have to be asked


def _of_mapping(names: Sequence[str], constants: Mapping[str, Any]) -> Take:
    if not constants.keys() & set(names):
        return itemgetter(*names) if len(names) > 1 else lambda item: (item[names[0]],)
    return lambda item: [constants[name] if name in constants else item[name] for name in names]


def _encoder(take: Take, encoders: Sequence[Convert | None]) -> Encode:
    """Return what makes the parameters of an item, of which `take` takes what is not encoded yet."""
    steps = [(number, each) for number, each in enumerate(encoders) if each is not None]

    def encode(item: Any) -> Sequence[Any]:
        """Return the parameters of an item, as the driver takes them."""
        row = [*take(item)]
        for number, convert in steps:
            value = row[number]
            if value is not None:
                row[number] = convert(value)
        return tuple(row)

    return encode


def _decoder(kind: Any, dialect: Dialect) -> Convert | None:
    """Return what decodes a column of this type, unless it is NULL; None: it is as it should be."""
    coltype = FLOAT8 if isinstance(kind, Float) else None
    found: Convert | None = kind.dialect_impl(dialect).result_processor(dialect, coltype)
    return found


def _row_decoder(
    columns: Sequence[str], decoders: Sequence[Convert | None], mapper: Mapper[Any] | None
) -> Callable[[Iterable[Row]], list[Any]]:
    """Return what decodes the rows of a query."""
    own = set() if mapper is None else set(mapper.columns)
    rest = [number for number, name in enumerate(columns) if name not in own]
    steps = [(number, decoders[number]) for number in rest]
    if mapper is None:
        if not any(decoders):
            return lambda found: [tuple(row) for row in found]
        return lambda found: [_decoded(row, steps) for row in found]
    read = mapper.reader(columns, decoders)
    if not rest:
        return lambda found: [(read(row),) for row in found]
    return lambda found: [(read(row), *_decoded(row, steps)) for row in found]


def _decoded(row: Row, steps: Sequence[tuple[int, Convert | None]]) -> tuple[Any, ...]:
    return tuple(
        [
            row[number] if decode is None or row[number] is None else decode(row[number])
            for number, decode in steps
        ]
    )


@contextmanager
def _encoding(sql: str) -> Generator[None]:
    """Raise what SQLAlchemy raises if a value is none for its column.

    Raises:
        StatementError: It cannot be encoded.
    """
    try:
        yield
    except Exception as error:
        raise StatementError(str(error), sql, None, error) from error
