"""`fleek purge`: some jobs through the server, many where the service runs."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service_process import PATIENCE, Service, delay, running

JOB = "0198f000-0000-7000-8000-000000000001"
OTHER = "0198f000-0000-7000-8000-000000000002"
QUICK = {**delay("0.01"), "HEARTBEAT_SECONDS": "5"}  # nobody dies here

Maker = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["plain", "json"])
def test_jobs_are_purged_by_their_ids(
    service: Any, fleek: Any, a_job: Maker, as_json: tuple[str, ...]
) -> None:
    """Through the server, from any machine."""
    for job_id in (JOB, OTHER):
        gone = a_job("completed", id=job_id, purged_at="2026-01-02T03:04:05Z")
        service.answers(f"DELETE /api/v1/jobs/{job_id}", {"message": "Job purged", "job": gone})

    ended = fleek("purge", JOB, OTHER, *as_json)

    assert ended.code == 0
    assert [request.query for request in service.requests] == ["purge=true"] * 2
    told = [
        json.loads(line)["id"] if as_json else line.split()[0]
        for line in ended.out.split("\n")[:2]
    ]
    assert told == [JOB, OTHER]


def test_an_unknown_job_is_exit_4(service: Any, fleek: Any) -> None:
    """As for every command."""
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
def test_what_is_to_be_purged_is_said_plainly(
    service: Any, fleek: Any, args: tuple[str, ...]
) -> None:
    """A slip of the hand must not remove anything."""
    ended = fleek("purge", *args)

    assert ended.code == 2
    assert not service.requests


def test_a_schema_that_is_not_there_is_exit_2(fleek: Any, tmp_path: Path) -> None:
    """The line says what to run."""
    os.chdir(tmp_path)

    ended = fleek("purge", "--older-than", "30d")

    assert ended.code == 2
    assert "fleek migrate" in ended.err


def command(service: Service, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command where the service runs."""
    return subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "fleek", "purge", *args],
        cwd=service.folder,
        env=service.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def aged(service: Service, job_id: str, *, days: float) -> None:
    """Let a job have ended so long ago."""
    then = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(service.folder / "fleek.db", timeout=PATIENCE)) as connection:
        connection.execute(
            "UPDATE jobs SET completed_at = ? WHERE id = ?", (then, job_id.replace("-", ""))
        )
        connection.commit()


def files(service: Service) -> list[Path]:
    """Return what is in storage."""
    storage = service.folder / "storage"
    return [path for area in ("media", "metadata") for path in (storage / area).rglob("*.*")]


@pytest.mark.usefixtures("_full_suite")
def test_old_jobs_are_purged_beside_the_service(tmp_path: Path) -> None:
    """Counted first, then removed; what is young stays, and the service answers 410 at once."""
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
def test_orphans_are_removed_by_hand(tmp_path: Path) -> None:
    """Of jobs that the database does not know, too; young files stay."""
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
def test_somebody_at_a_terminal_is_asked(tmp_path: Path, typed: str, left: int) -> None:
    """Files do not come back."""
    with running(tmp_path, **QUICK) as service:
        process = service.serve()
        job_id = service.submit()
        service.settle(seconds=PATIENCE)
        process.stop()
        aged(service, job_id, days=31)

        terminal, screen = pty.openpty()
        try:
            os.write(terminal, typed.encode())
            done = subprocess.run(
                [sys.executable, "-m", "fleek", "purge", "--older-than", "30d"],
                cwd=service.folder,
                env=service.env,
                stdin=screen,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        finally:
            os.close(terminal)
            os.close(screen)

        assert done.returncode == 0
        assert "Permanently remove" in done.stderr
        assert len(files(service)) == left
