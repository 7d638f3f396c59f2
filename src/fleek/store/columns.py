"""Types of columns that mean the same on both databases: a time, a JSON document."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import JSON, DateTime, Dialect, TypeDecorator

LENGTH: Final = len("2026-12-24 18:00:00.000000")


class Instant(TypeDecorator[datetime]):
    """An aware UTC time; microseconds. SQLite keeps it as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """Return what writes a value; a job has eight of them, so there is one call for each."""
        return super().bind_processor(dialect) if dialect.name == "postgresql" else _to_text

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[Any], datetime | None] | None:
        """Return what reads a value."""
        if dialect.name == "postgresql":
            return super().result_processor(dialect, coltype)
        return _from_text


def _to_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:LENGTH]


def _from_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)


Document = JSON(none_as_null=True)
"""Kept as the text that was written: JSONB would reorder keys and turn 1e300 into an integer."""
