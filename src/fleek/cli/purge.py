"""`fleek purge`: removes files and metadata permanently."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.job_ids import SomeJobIds
from fleek.cli.local_service import open_service
from fleek.cli.options import Session, age, command, connected
from fleek.cli.present import size, write
from fleek.cli.screen import Screen
from fleek.domain.job import TERMINAL, Status
from fleek.domain.values import dataclass

if TYPE_CHECKING:
    from fleek.engine.orphan_files import OrphanSearch, RemovedOrphans
    from fleek.settings import Settings

app = typer.Typer()


OlderThanOption = Annotated[
    str | None,
    typer.Option(
        metavar="AGE", help="Instead: all jobs that ended longer ago than this: 30d, 12h, 5m."
    ),
]
StatusOption = Annotated[
    Status | None,
    typer.Option("--status", "-s", help="With --older-than: only jobs with this status."),
]
OrphansOption = Annotated[
    bool,
    typer.Option("--orphans", help="Instead: files older than a day that belong to no job."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only show how much there is to purge.")
]


@command(app, "purge", session=connected)
def purge(
    job_ids: SomeJobIds = None,
    *,
    older_than: OlderThanOption = None,
    status: StatusOption = None,
    orphans: OrphansOption = False,
    dry_run: DryRunOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    session: Session,
) -> None:
    """Remove files and metadata permanently; the jobs themselves stay.

    Jobs given by id are purged through the server; unfinished ones are cancelled first. With
    --older-than and --orphans the command opens the database and storage of the service with its
    settings: run it where the service runs.
    """
    if sum(map(bool, (job_ids, older_than, orphans))) != 1:
        raise typer.BadParameter("give either IDs, or --older-than, or --orphans")
    if status is not None and (older_than is None or status not in TERMINAL):
        raise typer.BadParameter(
            "must be completed, failed or cancelled, beside --older-than", param_hint="--status"
        )
    if not job_ids:
        _purge_in_bulk(session.screen, older_than, status, dry_run=dry_run, ask=not yes)
    elif dry_run:
        raise typer.BadParameter("not with IDs", param_hint="--dry-run")
    else:
        _purge_jobs(session, job_ids)


def _purge_jobs(session: Session, job_ids: list[str]) -> None:
    for job_id in session.jobs(job_ids):
        job = session.client.purge(job_id)
        write(session.screen, job, job.id, job.status.value)


def _purge_in_bulk(
    screen: Screen, older_than: str | None, status: Status | None, *, dry_run: bool, ask: bool
) -> None:
    """Purge in the service's own database and storage; without an age, orphaned files."""
    import asyncio  # noqa: PLC0415 - heavy

    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    terminal = sys.stdin.isatty()
    bulk = BulkPurge(read(Settings), screen, dry_run=dry_run, ask=ask and terminal)
    if older_than is None:
        work = bulk.orphaned_files()
    else:
        work = bulk.jobs(age(older_than, "--older-than"), status)
    raise typer.Exit(asyncio.run(work))


@dataclass(frozen=True, slots=True)
class BulkPurge:
    """One run of the command without ids. `ask`: whether to ask for confirmation."""

    settings: "Settings"
    screen: Screen
    dry_run: bool
    ask: bool

    async def jobs(self, minimum_age: timedelta, status: Status | None) -> Exit:
        """Purge jobs that ended at least so long ago, with this status or (None) any.

        As in retention, leaps of the clock do not count as age: a purge cannot be undone.
        """
        from fleek.engine.purge import purge_older  # noqa: PLC0415 - heavy
        from fleek.store import purges  # noqa: PLC0415 - heavy

        async with open_service(self.settings) as rt:
            before = rt.clock.back(rt.now(), minimum_age)
            estimate = await purges.weigh(rt.db, before=before, status=status)
            if self.dry_run or not self._confirmed(estimate.jobs, "jobs", estimate.size_bytes):
                return self._report(
                    "would purge", estimate.jobs, estimate.files, estimate.size_bytes
                )
            freed = await purge_older(rt, before=before, status=status)
        if freed.kept:
            self.screen.warn(
                f"{freed.kept} jobs are kept: others that have not ended need their files"
            )
        if freed.failed:
            self.screen.warn(f"{freed.failed} jobs could not be purged now: see the log")
        code = self._report("purged", freed.jobs, freed.files, freed.size_bytes)
        return Exit.JOB_FAILED if freed.failed else code

    async def orphaned_files(self) -> Exit:
        """Remove files that belong to no job."""
        from fleek.engine.orphan_files import OrphanSearch  # noqa: PLC0415 - heavy

        async with open_service(self.settings) as rt:
            if self.dry_run or self.ask:
                found = await _finished(OrphanSearch(rt, unknown=True, dry=True))
                if self.dry_run or not self._confirmed(found.orphans, "files", found.size_bytes):
                    return self._report("would remove", None, found.orphans, found.size_bytes)
            removed = await _finished(OrphanSearch(rt, unknown=True))
        if removed.failed:
            self.screen.warn(f"{removed.failed} files could not be removed now: see the log")
        code = self._report("removed", None, removed.orphans, removed.size_bytes)
        return Exit.JOB_FAILED if removed.failed else code

    def _confirmed(self, number: int, what: str, size_bytes: int) -> bool:
        """Whether to go on; where there is nothing to purge, nothing is asked."""
        if not self.ask or not number:
            return True
        question = f"Permanently remove the files of {number} {what}, {size(size_bytes)}?"
        return typer.confirm(question, err=True)

    def _report(self, verb: str, jobs: int | None, files: int, size_bytes: int) -> Exit:
        if self.screen.as_json:
            counted = {} if jobs is None else {"jobs": jobs}
            self.screen.json({"done": verb, **counted, "files": files, "bytes": size_bytes})
        else:
            of_jobs = "" if jobs is None else f"{jobs} jobs: "
            self.screen.data(f"{verb} {of_jobs}{files} files, {size(size_bytes)}")
        return Exit.DONE


async def _finished(search: "OrphanSearch") -> "RemovedOrphans":
    while await search.batch():
        pass
    return search.result
