"""The errors of the database and its drivers, in our words."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fleek.domain.errors import DatabaseUnavailable, FleekError, InvalidInput, StorageFull
from fleek.domain.text import without_credentials

DISK_FULL: Final = "53100"  # PostgreSQL, appendix A; classes are the first two characters
DATA: Final = "22"
CONSTRAINT: Final = "23"


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
        DatabaseUnavailable: It cannot be reached, is stopping, or is busy for too long.
        StorageFull: No room for another row.
        InvalidInput: A text or number that the database cannot hold.
        RowRefused: A constraint forbids a row.
    """
    try:
        yield
    except ProgrammingError:
        raise  # a mistake of ours: shows with its traceback
    except DBAPIError as error:
        raise _translation(error) from error
    except (StatementError, OverflowError, UnicodeError) as error:  # found before it was sent
        raise InvalidInput(UNSTORABLE) from error
    except (PoolTimeout, OSError) as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {said(error)}") from error


UNSTORABLE: Final = "holds a character or a number that cannot be stored"


def _translation(error: DBAPIError) -> FleekError:
    reason, state = said(error), sqlstate(error)
    number = _sqlite_code(error)
    if isinstance(error, IntegrityError) or state.startswith(CONSTRAINT):
        return RowRefused(reason, constraint=_constraint(error))
    if state.startswith(DATA) or number == sqlite3.SQLITE_TOOBIG:
        return InvalidInput(UNSTORABLE)
    if state == DISK_FULL or number == sqlite3.SQLITE_FULL or "No space left" in reason:
        return StorageFull("the database has no room left")
    return DatabaseUnavailable(f"the database does not answer: {reason}")


def said(error: BaseException) -> str:
    """Return the driver's own words in one line, without statement and values."""
    source = error.orig if isinstance(error, DBAPIError) else error
    words = without_credentials(str(source).partition("\n")[0])
    return words or type(source).__name__


def sqlstate(error: BaseException | None) -> str:
    """Return PostgreSQL's code for what went wrong, or nothing."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite gave up because another connection writes."""
    return isinstance(error, DBAPIError) and _sqlite_code(error) == sqlite3.SQLITE_BUSY


def _sqlite_code(error: DBAPIError) -> int:
    extended: int = getattr(error.driver_exception, "sqlite_errorcode", 0)
    return extended & 0xFF


def _constraint(error: DBAPIError) -> str:
    name: str | None = getattr(error.driver_exception, "constraint_name", None)
    return name or said(error).partition(": ")[2]
