"""Types of columns that mean the same on both databases: a time, a JSON document."""

from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, Dialect, TypeDecorator


class Instant(TypeDecorator[datetime]):
    """An aware UTC time; microseconds. SQLite keeps it as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Write UTC."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read UTC."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.replace(tzinfo=UTC)


Document = JSON(none_as_null=True)
"""Kept as the text that was written: JSONB would reorder keys and turn 1e300 into an integer."""
