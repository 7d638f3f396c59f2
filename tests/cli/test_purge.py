"""`fleek purge`: single jobs through the API, many where the service runs."""

import json
import os
import pty
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import process_template
from process_template import inherited
from service_process import PATIENCE, Service, delay, running

JOB = "0198f000-0000-7000-8000-000000000001"
OTHER = "0198f000-0000-7000-8000-000000000002"
QUICK = {**delay("0.01"), "HEARTBEAT_SECONDS": "5"}  # no worker is to be considered dead

Maker = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["plain", "json"])
def test_jobs_are_purged_by_id(
    service: Any, fleek: Any, a_job: Maker, as_json: tuple[str, ...]
) -> None:
    """This uses the API and works from any machine."""
    for job_id in (JOB, OTHER):
        gone = a_job("completed", id=job_id, purged_at="2026-01-02T03:04:05Z")
        service.answers(f"DELETE /api/v1/jobs/{job_id}", {"message": "Job purged", "job": gone})

    ended = fleek("purge", JOB, OTHER, *as_json)

    assert ended.code == 0
    assert [request.query for request in service.requests] == ["purge=true"] * 2
    printed = [
        json.loads(line)["id"] if as_json else line.split()[0]
        for line in ended.out.split("\n")[:2]
    ]
    assert printed == [JOB, OTHER]


def test_an_unknown_job_is_exit_4(service: Any, fleek: Any) -> None:
    """As with every command."""
    ended = fleek("purge", JOB)

    assert (ended.code, ended.out) == (4, "")
    assert service.requests


@pytest.mark.parametrize(
    "args",
    [
        (),
        (JOB, "--older-than", "30d"),
        ("--older-than", "30d", "--orphans"),
        ("--older-than", "30"),
        ("--older-than", "-1d"),
        ("--older-than", "30w"),
        ("--older-than", "999999d"),
        ("--older-than", "30d", "--status", "pending"),
        ("--orphans", "--status", "failed"),
        (JOB, "--dry-run"),
    ],
    ids=" ".join,
)
def test_ambiguous_arguments_of_purge_are_refused(
    service: Any, fleek: Any, args: tuple[str, ...]
) -> None:
    """A typing error must not remove anything."""
    ended = fleek("purge", *args)

    assert ended.code == 2
    assert not service.requests


def test_a_missing_schema_is_exit_2(fleek: Any, tmp_path: Path) -> None:
    """The line names the command to run."""
    os.chdir(tmp_path)

    ended = fleek("purge", "--older-than", "30d")

    assert ended.code == 2
    assert "fleek migrate" in ended.err


def command(service: Service, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command where the service runs."""
    env = {**inherited(), **service.env}
    return process_template.run(
        "fleek", "purge", *args, folder=service.folder, env=env, timeout=PATIENCE, **options
    )


def aged(service: Service, job_id: str, *, days: float) -> None:
    """Change a job so that it ended this many days ago."""
    then = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(service.folder / "fleek.db", timeout=PATIENCE)) as connection:
        connection.execute(
            "UPDATE jobs SET completed_at = ? WHERE id = ?", (then, job_id.replace("-", ""))
        )
        connection.commit()


def files(service: Service) -> list[Path]:
    """Return the files in the storage."""
    storage = service.folder / "storage"
    return [path for area in ("media", "metadata") for path in (storage / area).rglob("*.*")]


@pytest.mark.usefixtures("_full_suite")
def test_old_jobs_are_purged_beside_the_service(tmp_path: Path) -> None:
    """A dry run counts them; recent jobs stay, and purged ones are answered with 410 at once."""
    with running(tmp_path, **QUICK) as service:
        service.serve()
        old, young = service.submit(), service.submit()
        service.settle(seconds=PATIENCE)
        aged(service, old, days=31)

        counted = command(service, "--older-than", "30d", "--dry-run", "--json")
        there = len(files(service))
        done = command(service, "--older-than", "30d")
        again = command(service, "--older-than", "30d", "--status", "completed", "--json")

        answers = [service.http.get(f"/api/v1/download/{one}") for one in (old, young)]
        assert json.loads(counted.stdout)["jobs"] == 1
        assert (there, len(files(service))) == (4, 2)
        assert done.returncode == 0
        assert done.stdout.startswith("purged 1 jobs: 2 files, ")
        assert json.loads(again.stdout)["jobs"] == 0
        assert [answer.status_code for answer in answers] == [410, 200]
        assert service.job(old)["status"] == "completed"


@pytest.mark.usefixtures("_full_suite")
def test_orphaned_files_are_removed_on_command(tmp_path: Path) -> None:
    """Also those of unknown jobs; recent files stay."""
    with running(tmp_path, **QUICK) as service:
        process = service.serve()
        service.submit()
        service.settle(seconds=PATIENCE)
        process.stop()
        kept = len(files(service))
        orphans = [
            service.folder / "storage" / "media" / one / "a" / "0-b.png" for one in (JOB, OTHER)
        ]
        for path, age in zip(orphans, (2 * 86_400, 60), strict=True):
            path.parent.mkdir(parents=True)
            path.write_bytes(b"left")
            os.utime(path, (time.time() - age,) * 2)

        dry, done = command(service, "--orphans", "--dry-run"), command(service, "--orphans")

        assert dry.stdout == "would remove 1 files, 4 bytes\n"
        assert done.stdout == "removed 1 files, 4 bytes\n"
        assert [path.exists() for path in orphans] == [False, True]
        assert len(files(service)) == kept + 1


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize(("typed", "left"), [("n\n", 2), ("y\n", 0)], ids=["refused", "agreed"])
def test_purge_asks_for_confirmation_at_a_terminal(tmp_path: Path, typed: str, left: int) -> None:
    """Removed files cannot be restored."""
    with running(tmp_path, **QUICK) as service:
        process = service.serve()
        job_id = service.submit()
        service.settle(seconds=PATIENCE)
        process.stop()
        aged(service, job_id, days=31)

        terminal, screen = pty.openpty()
        try:
            os.write(terminal, typed.encode())
            done = command(service, "--older-than", "30d", stdin=screen)
        finally:
            os.close(terminal)
            os.close(screen)

        assert done.returncode == 0
        assert "Permanently remove" in done.stderr
        assert len(files(service)) == left
