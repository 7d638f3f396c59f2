"""The database and storage of the service, for operators' commands that work beside it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fleek.bootstrap import open_runtime
from fleek.domain.errors import ConfigurationError
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store.database import reach
from fleek.store.migrate import up_to_date
from fleek.telemetry import configure_logging


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open a runtime on the service's database and storage.

    Raises:
        ConfigurationError: A setting is invalid, or the schema has another version.
    """
    configure_logging(level="WARNING", style=settings.log_format)
    async with open_runtime(settings) as rt:
        await reach(rt.db)
        if not await up_to_date(rt.db):
            raise ConfigurationError("DATABASE_URL: the schema is not up to date: fleek migrate")
        await rt.clock.set()
        yield rt
