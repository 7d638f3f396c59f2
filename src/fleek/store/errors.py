"""Translate the errors of the database and its drivers."""

import os
import sqlite3
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fleek.domain.errors import (
    DatabaseUnavailable,
    FleekError,
    InvalidInput,
    Overloaded,
    ResourcesExhausted,
    StorageFull,
)
from fleek.domain.host_errors import host_errors
from fleek.domain.text import without_credentials

# PostgreSQL's codes are those of its appendix A; classes are the first two characters.
DISK_FULL: Final = "53100"
DATA: Final = "22"
CONSTRAINT: Final = "23"
CONNECTION: Final = "08"
SHUTDOWN: Final = "57P"
LOCKED: Final = "55P03"
READ_ONLY: Final = "25006"
OF_A_POOLER: Final = frozenset(
    {"26000", "42P05"}
)  # a statement was prepared on another connection
REFUSALS: Final = frozenset(  # of class 42, which else is a mistake of ours
    {"42501", "42P01", "42P05"}  # no permission; no table, as in a database that was emptied
)
NOT_NOW: Final = frozenset(  # it starts, stops, is full of clients, is someone's replica
    {"57P01", "57P02", "57P03", "53300", READ_ONLY, LOCKED}
)
SPOILT: Final = frozenset(  # errors that a connection to SQLite does not recover from
    {
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT),
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PROTOCOL),
    }
)


SQLITE_FILES: Final = 4  # descriptors of one connection: the database, its log, index and journal


class RowRefused(FleekError):
    """A constraint of the database forbids this row."""

    code = "row_refused"

    def __init__(self, message: str, *, constraint: str) -> None:
        super().__init__(message)
        self.constraint = constraint  # its name; on SQLite its columns


@contextmanager
def translated() -> Generator[None]:
    """Translate what statements raise.

    Raises:
        DatabaseUnavailable: It cannot be reached, or refuses.
        Overloaded: It is locked, or all connections are taken, for too long.
        StorageFull: No room for another row.
        InvalidInput: A text or number that the database cannot hold.
        RowRefused: A constraint forbids a row.
    """
    try:
        yield
    except ProgrammingError as error:
        if sqlstate(error) not in REFUSALS:
            raise  # a mistake of ours: shows with its traceback
        raise _translation(error) from error
    except DBAPIError as error:
        raise _translation(error) from error
    except (StatementError, OverflowError, UnicodeError) as error:  # found before it was sent
        raise InvalidInput(UNSTORABLE) from error
    except PoolTimeout as error:
        raise Overloaded("all connections to the database are taken") from error
    except OSError as error:
        raise DatabaseUnavailable(
            f"the database cannot be reached: {driver_message(error)}"
        ) from error


UNSTORABLE: Final = "holds a character or a number that cannot be stored"


def _translation(error: DBAPIError) -> FleekError:
    reason, state = driver_message(error), sqlstate(error)
    number = _sqlite_code(error)
    if isinstance(error, IntegrityError) or state.startswith(CONSTRAINT):
        return RowRefused(reason, constraint=_constraint(error))
    if state.startswith(DATA) or number == sqlite3.SQLITE_TOOBIG:
        return InvalidInput(UNSTORABLE)
    if state == DISK_FULL or number == sqlite3.SQLITE_FULL or "No space left" in reason:
        return StorageFull("the database has no room left")
    if state == LOCKED or is_busy(error):
        return Overloaded(f"the database is locked: {reason}")
    if number == sqlite3.SQLITE_CANTOPEN:
        reason = _why_not_opened(reason)
    return DatabaseUnavailable(f"the database refuses: {reason}")


def _why_not_opened(reason: str) -> str:
    """Return why SQLite cannot open a file; it does not report missing descriptors."""
    try:
        check_descriptors()
    except ResourcesExhausted as missing:
        return str(missing)
    return reason


def check_descriptors() -> None:
    """Make sure that another connection to SQLite can open its files.

    Raises:
        ResourcesExhausted: This process has too few file descriptors left.
    """
    opened: list[int] = []
    try:
        with host_errors("open a file"):
            for _ in range(SQLITE_FILES):
                opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - closed if one fails
    finally:
        for descriptor in opened:
            os.close(descriptor)


def driver_message(error: BaseException) -> str:
    """Return the driver's message in one line, without statement and values."""
    source = error.orig if isinstance(error, DBAPIError) else error
    words = without_credentials(str(source).partition("\n")[0])
    return words or type(source).__name__


def sqlstate(error: BaseException | None) -> str:
    """Return PostgreSQL's code for what went wrong, or nothing."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite gave up because another connection writes."""
    return isinstance(error, DBAPIError) and _sqlite_code(error) == sqlite3.SQLITE_BUSY


def is_temporary(error: BaseException | None) -> bool:
    """Whether a database of the right address answers that it cannot serve us now."""
    no_primary = isinstance(error, DBAPIError) and "target attribute" in driver_message(error)
    return is_busy(error) or sqlstate(error) in NOT_NOW or no_primary


def is_unreachable(error: BaseException | None) -> bool:
    """Whether there was no answer, or the connection was lost."""
    cut = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
    return cut or sqlstate(error).startswith(CONNECTION)


def has_answered(error: BaseException | None) -> bool:
    """Whether the database itself reported that the statement had no effect."""
    state = sqlstate(error)
    if state:
        return not state.startswith((CONNECTION, SHUTDOWN))
    return isinstance(error, DBAPIError) and _sqlite_code(error) != 0


def is_spoilt(error: BaseException | None) -> bool:
    """Whether the connection that raised this must not be used again.

    It is cut, stuck, or answers and refuses: its server became a replica, its file was replaced.
    `error` is the driver's own.
    """
    state = str(getattr(error, "sqlstate", None) or "")
    refused = state == READ_ONLY or state in OF_A_POOLER
    refused = refused or state.startswith((CONNECTION, SHUTDOWN))
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    return refused or code & 0xFF in SPOILT or isinstance(error, OSError)


def _sqlite_code(error: DBAPIError) -> int:
    extended: int = getattr(_of_the_driver(error), "sqlite_errorcode", None) or 0
    return extended & 0xFF


def _of_the_driver(error: DBAPIError) -> BaseException | None:
    """Return the driver's own error; SQLAlchemy keeps none if a statement is to be prepared again."""
    return None if getattr(error.orig, "orig", error) is None else error.driver_exception


def _constraint(error: DBAPIError) -> str:
    name: str | None = getattr(_of_the_driver(error), "constraint_name", None)
    return name or driver_message(error).partition(": ")[2]
