"""The database and storage of the service, for operators' commands that work beside it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from fleek.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime
    from fleek.settings import Settings

Result = TypeVar("Result")


def run_locally(work: Callable[["Runtime"], Awaitable[Result]]) -> Result:
    """Do work on the service's database and storage, and return its result.

    Raises:
        ConfigurationError: A setting is invalid, or the schema has another version.
    """
    import asyncio  # noqa: PLC0415 - heavy

    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    async def opened(settings: Settings) -> Result:
        async with open_service(settings) as rt:
            return await work(rt)

    return asyncio.run(opened(read(Settings)))


@asynccontextmanager
async def open_service(settings: "Settings") -> AsyncGenerator["Runtime"]:
    """Open a runtime on the service's database and storage.

    Raises:
        ConfigurationError: A setting is invalid, there is no database, or the schema has another version.
    """
    _check_file(settings.database_url)
    from fleek.bootstrap import open_runtime  # noqa: PLC0415 - heavy
    from fleek.store.database import reach  # noqa: PLC0415 - heavy
    from fleek.store.migrate import up_to_date  # noqa: PLC0415 - heavy
    from fleek.telemetry import configure_logging  # noqa: PLC0415 - heavy

    configure_logging(level="WARNING", style=settings.log_format)
    async with open_runtime(settings) as rt:
        await reach(rt.db)
        if not await up_to_date(rt.db):
            raise ConfigurationError("DATABASE_URL: the schema is not up to date: fleek migrate")
        await rt.clock.set()
        yield rt


def _check_file(setting: str) -> None:
    """Make sure that a database in a file is there: in another folder, an empty one would be made."""
    from pathlib import Path  # noqa: PLC0415 - not needed for help

    from fleek.store.address import database_url  # noqa: PLC0415 - heavy

    url = database_url(setting)
    if url.drivername.startswith("sqlite") and not Path(url.database or "").exists():
        raise ConfigurationError(
            f"DATABASE_URL: there is no database {url.database}: run this in the folder of the service, set "
            "DATABASE_URL, or create one: fleek migrate"
        )
