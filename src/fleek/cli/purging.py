"""What an operator purges in bulk: on the service's database and storage, beside whoever serves."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import typer

from fleek.bootstrap import open_runtime
from fleek.cli.exit_codes import Exit
from fleek.cli.present import size
from fleek.cli.screen import Screen
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import Status
from fleek.engine.orphan_files import OrphanSearch, RemovedOrphans
from fleek.engine.purge import purge_older
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store import purges
from fleek.store.database import reach
from fleek.store.migrate import up_to_date
from fleek.telemetry import configure_logging


@dataclass(frozen=True, slots=True)
class Operation:
    """One run of the command. `ask`: whether somebody is there to agree first."""

    settings: Settings
    screen: Screen
    dry_run: bool
    ask: bool

    async def old(self, age: timedelta, status: Status | None) -> Exit:
        """Purge jobs that ended so long ago, in this way or (None) in any.

        What the clock leapt over is no age, as with retention: what is gone cannot come back.
        """
        async with opened(self.settings) as rt:
            before = rt.clock.back(rt.now(), age)
            there = await purges.weigh(rt.db, before=before, status=status)
            if self.dry_run or not self._agreed(there.jobs, "jobs", there.size_bytes):
                return self._tell("would purge", there.jobs, there.files, there.size_bytes)
            freed = await purge_older(rt, before=before, status=status)
        if freed.failed:
            self.screen.warn(f"{freed.failed} jobs could not be purged now: the log says why")
        code = self._tell("purged", freed.jobs, freed.files, freed.size_bytes)
        return Exit.JOB_FAILED if freed.failed else code

    async def orphans(self) -> Exit:
        """Remove files that no job stands for."""
        async with opened(self.settings) as rt:
            if self.dry_run or self.ask:
                there = await _swept(OrphanSearch(rt, unknown=True, dry=True))
                if self.dry_run or not self._agreed(there.orphans, "files", there.size_bytes):
                    return self._tell("would remove", None, there.orphans, there.size_bytes)
            gone = await _swept(OrphanSearch(rt, unknown=True))
        if gone.failed:
            self.screen.warn(f"{gone.failed} files could not be removed now: the log says why")
        code = self._tell("removed", None, gone.orphans, gone.size_bytes)
        return Exit.JOB_FAILED if gone.failed else code

    def _agreed(self, number: int, what: str, size_bytes: int) -> bool:
        """Whether to go on; nothing to do needs nobody's consent."""
        if not self.ask or not number:
            return True
        question = f"Remove for good what is stored of {number} {what}, {size(size_bytes)}?"
        return typer.confirm(question, err=True)

    def _tell(self, verb: str, jobs: int | None, files: int, size_bytes: int) -> Exit:
        if self.screen.as_json:
            counted = {} if jobs is None else {"jobs": jobs}
            self.screen.json({"done": verb, **counted, "files": files, "bytes": size_bytes})
        else:
            of_jobs = "" if jobs is None else f"{jobs} jobs: "
            self.screen.data(f"{verb} {of_jobs}{files} files, {size(size_bytes)}")
        return Exit.DONE


async def _swept(search: OrphanSearch) -> RemovedOrphans:
    while await search.batch():
        pass
    return search.swept


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open what the service works with.

    Raises:
        ConfigurationError: A setting is wrong, or the schema is another one's.
    """
    configure_logging(level="WARNING", style=settings.log_format)
    async with open_runtime(settings) as rt:
        await reach(rt.db)
        if not await up_to_date(rt.db):
            raise ConfigurationError("DATABASE_URL: the schema is not up to date: fleek migrate")
        await rt.clock.set()
        yield rt
