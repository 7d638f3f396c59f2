"""`generate --from`: a file of prompts into a folder, which remembers what is made."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import typer

from fleek.cli.job_options import with_uploads
from fleek.cli.options import Session, typed
from fleek.domain.errors import NotFound
from fleek.domain.job import Status
from fleek.domain.values import dataclass

if TYPE_CHECKING:
    from fleek.client import Client
    from fleek.client.models import JobRead

JOURNAL: Final = ".fleek-jobs.jsonl"
MAX_PROMPTS: Final = 10_000


def read_prompts(file: Path) -> list[str]:
    """Return the lines that are not empty.

    Raises:
        BadParameter: The file cannot be read, or has none or too many.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not UTF-8", param_hint="--from") from None
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--from") from None
    prompts = [typed(line.strip()) for line in text.splitlines() if line.strip()]
    if not 0 < len(prompts) <= MAX_PROMPTS:
        raise typer.BadParameter(
            f"{file} must have 1 to {MAX_PROMPTS} lines that are not empty", param_hint="--from"
        )
    return prompts


@dataclass(frozen=True, slots=True)
class Line:
    """A prompt of the file, with what its job is known by."""

    number: int  # from 1
    prompt: str
    digest: str  # of the whole request: another one is another job


class Folder:
    """The folder of the files: named by the number of their line, with a journal of the jobs."""

    def __init__(self, path: Path, run_at: datetime | None) -> None:
        """Create the folder, or read what is in it; `run_at` is that of its first run.

        Raises:
            BadParameter: It cannot be created or read.
        """
        self._path = path
        self._journal = path / JOURNAL
        self.key = ""
        self.run_at = None if run_at is None else run_at.isoformat()
        self.jobs: dict[tuple[int, str], UUID] = {}
        self._lines: dict[UUID, Line] = {}
        try:
            path.mkdir(parents=True, exist_ok=True)
            if self._journal.exists():
                self._read()
            if not self.key:  # nothing was submitted yet
                self.key = uuid4().hex
                self._write({"key": self.key, "run_at": self.run_at})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise typer.BadParameter(
                f"{self._journal} cannot be used: {error}", param_hint="-o"
            ) from None

    def _read(self) -> None:
        for text in self._journal.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(text)
            except ValueError:
                continue  # it was cut off; the idempotency key finds the job
            if "key" in entry:
                self.key, self.run_at = entry["key"], entry["run_at"]
            else:
                self.jobs[entry["line"], entry["digest"]] = UUID(entry["job"])

    def _write(self, entry: Mapping[str, Any]) -> None:
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(("" if file.tell() == 0 else self._mend()) + json.dumps(entry) + "\n")

    def _mend(self) -> str:
        """Return what ends a line that was cut off."""
        return "" if self._journal.read_bytes().endswith(b"\n") else "\n"

    def remember(self, line: Line, job_id: UUID) -> None:
        """Note the job of a line, for now and for the next run."""
        if self.jobs.get((line.number, line.digest)) != job_id:
            self._write({"line": line.number, "digest": line.digest, "job": str(job_id)})
            self.jobs[line.number, line.digest] = job_id
        self._lines[job_id] = line

    def has(self, line: Line) -> bool:
        """Whether the file of a line is there."""
        known = (line.number, line.digest) in self.jobs
        return known and any(self._path.glob(f"{self._stem(line.number)}.*"))

    def save(self, client: "Client", job: "JobRead", indexes: Sequence[int]) -> list[Path]:
        """Download the files of a job; see `Places`. The first is the last to appear."""
        line = self._lines[job.id]
        if not indexes:
            return []
        outputs = client.result(job.id).outputs
        names = [
            self._path / f"{self._stem(line.number)}{Path(each.name).suffix}" for each in outputs
        ]
        paths = [
            name if nth == 0 else name.with_stem(f"{name.stem}-{nth}")
            for nth, name in enumerate(names)
        ]
        for output, path in reversed(list(zip(outputs, paths, strict=True))):
            output.save(path)
        return paths

    @staticmethod
    def _stem(number: int) -> str:
        return f"{number:05d}"


def submit_all(
    session: Session,
    prompts: Sequence[str],
    request: dict[str, Any],
    folder: Folder,
    made: list[UUID],
) -> None:
    """Submit what is not made yet; the ids of its jobs are added to `made`.

    A repeated run finds the jobs of an interrupted one by its journal, and by idempotency keys where
    it was interrupted before the journal was written. Failed and cancelled jobs are retried.
    """
    described = json.dumps({**request, "run_at": None}, sort_keys=True, default=_content)
    if folder.run_at is not None:
        request = {**request, "run_at": datetime.fromisoformat(folder.run_at)}
    uploaded: dict[str, Any] | None = None
    for number, prompt in enumerate(prompts, 1):
        digest = hashlib.sha256(f"{described}\n{prompt}".encode()).hexdigest()[:32]
        line = Line(number, prompt, digest)
        if folder.has(line):
            continue
        job_id = _known(session.client, folder.jobs.get((number, digest)))
        if job_id is None:
            uploaded = uploaded or with_uploads(session, request)
            key = f"{folder.key}-{number}-{digest}"
            job_id = session.client.submit(prompt, **uploaded, idempotency_key=key).id
        folder.remember(line, job_id)
        made.append(job_id)


def _content(value: object) -> str:
    """Stand for a file by its bytes."""
    if not isinstance(value, Path):
        raise TypeError
    try:
        return hashlib.sha256(value.read_bytes()).hexdigest()
    except OSError as error:
        raise typer.BadParameter(f"{value}: {error.strerror}", param_hint="-i") from None


def _known(client: "Client", job_id: UUID | None) -> UUID | None:
    """Return the job of a line that was submitted before, or its retry; None: submit it."""
    if job_id is None:
        return None
    try:
        job = client.status(job_id)
    except NotFound:
        return None
    again = job.status in {Status.FAILED, Status.CANCELLED}
    return client.retry(job_id).id if again else job_id
