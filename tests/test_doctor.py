"""Findings of `fleek doctor`, with and without problems."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from backing_services import free_port
from fleek import diagnosis, doctor
from fleek.diagnosis import Finding
from fleek.doctor import examine
from fleek.domain.job import WorkerId
from fleek.engine.signing import SecretBox
from fleek.settings import Settings
from fleek.store import provider_health
from fleek.store.database import open_database
from fleek.store.endpoints import first_secret
from fleek.store.migrate import migrate
from fleek.store.workers import Worker
from listening import listening, port_of
from service_process import PATIENCE

ZERO = timedelta(0)
NOW = datetime(2026, 12, 1, tzinfo=UTC)
KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a service in an empty folder, on a free port."""
    monkeypatch.setenv("STORAGE_PATH", str(tmp_path / "storage"))
    monkeypatch.setattr(doctor, "PATIENCE", timedelta(seconds=PATIENCE))
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", PATIENCE)
    return Settings(database_url=f"sqlite:///{tmp_path}/fleek.db", api_port=free_port())


def of(findings: list[Finding], subject: str) -> list[Finding]:
    """Return the findings about a subject."""
    return [finding for finding in findings if finding.subject == subject]


async def test_an_empty_folder_has_no_problems(settings: Settings, tmp_path: Path) -> None:
    """Before the first start nothing is wrong, and doctor creates no database."""
    findings = await examine(settings)

    assert {finding.status for finding in findings} == {"ok"}
    assert not (tmp_path / "fleek.db").exists()


async def test_the_database_is_described(settings: Settings) -> None:
    """The message has what decides about durability."""
    async with open_database(settings.database_url) as db:
        revision = await migrate(db)

    findings = await examine(settings)

    (database,) = of(findings, "database")
    assert database.status == "ok"
    assert database.message.startswith("sqlite 3.")
    assert database.message.endswith(f"schema {revision}, journal_mode wal, synchronous FULL")
    assert of(findings, "database disk")[0].status == "ok"


async def test_a_mistake_in_the_operators_models_is_an_error(
    settings: Settings, tmp_path: Path
) -> None:
    """With its place; the catalogue that is there is counted."""
    file = tmp_path / "models.toml"
    file.write_text("[mine]\n")

    wrong = await examine(settings.model_copy(update={"models_file": file}))
    (models,) = of(await examine(settings), "models")

    assert [one.status for one in of(wrong, "models")] == ["error"]
    assert f"MODELS_FILE={file}: mine.kind: Field required" in of(wrong, "models")[0].message
    assert (models.status, models.message[:5]) == ("ok", "0 of ")


async def test_a_database_without_a_schema_is_a_warning(
    settings: Settings, tmp_path: Path
) -> None:
    """An operator may have created the file by hand."""
    (tmp_path / "fleek.db").touch()

    (database,) = of(await examine(settings), "database")

    assert database.status == "warning"
    assert "fleek migrate" in database.advice


async def test_a_database_in_a_missing_folder_is_an_error(settings: Settings) -> None:
    """SQLite creates files, not folders."""
    lost = settings.model_copy(update={"database_url": "sqlite:////nowhere/fleek.db"})

    (database,) = of(await examine(lost), "database")

    assert database.status == "error"
    assert "/nowhere" in database.advice


async def test_an_unreachable_database_is_an_error(settings: Settings) -> None:
    """Nothing listens on port 1; the other subjects are examined all the same."""
    lost = settings.model_copy(update={"database_url": "postgres://me:hunter2@127.0.0.1:1/x"})

    findings = await examine(lost)

    (database,) = of(findings, "database")
    assert database.status == "error"
    assert "DATABASE_URL" in database.advice
    assert "hunter2" not in database.message
    assert of(findings, "port")


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"journal_mode": "wal", "synchronous": "2"}, "ok"),
        ({"journal_mode": "wal", "synchronous": "1"}, "warning"),
        ({"journal_mode": "delete", "synchronous": "2"}, "warning"),
        ({"kind": "postgresql", "synchronous_commit": "on", "fsync": "on"}, "ok"),
        ({"kind": "postgresql", "synchronous_commit": "off", "fsync": "on"}, "warning"),
        ({"kind": "postgresql", "synchronous_commit": "on", "fsync": "off"}, "warning"),
    ],
)
def test_weak_durability_is_a_warning(facts: dict[str, str], status: str) -> None:
    """An accepted job is on the disk, or the operator is warned."""
    finding = diagnosis.judge_durability(
        {"kind": "sqlite", "version": "3", "revision": "1", **facts}
    )

    assert finding.status == status


@pytest.mark.parametrize(
    ("stored_with", "master_key", "words"),
    [
        ((), None, ["without encryption", "set MASTER_KEY"]),
        ((), KEY, ["without encryption", "fleek webhooks rotate"]),
        ((bytes(32),), KEY, []),
        ((bytes(range(32)),), KEY, ["cannot be decrypted", "MASTER_KEY"]),
        ((bytes(32),), None, ["cannot be decrypted", "MASTER_KEY"]),
    ],
)
async def test_signing_secrets_are_examined(
    settings: Settings, stored_with: tuple[bytes, ...], master_key: str | None, words: list[str]
) -> None:
    """A copy of the database must not reveal them, and they must be readable."""
    chosen = Settings(
        database_url=settings.database_url,
        api_port=settings.api_port,
        master_key=master_key,
    )
    async with open_database(settings.database_url) as db:
        await migrate(db)
        sealed = SecretBox(stored_with).seal("whsec_x", owner="tenant:default")
        await first_secret(db, "tenant:default", sealed, now=NOW)

    found = of(await examine(chosen), "webhooks")

    text = " ".join(f"{finding.status} {finding.message} {finding.advice}" for finding in found)
    assert len(found) == (1 if words else 0)
    assert all(word in text for word in words)
    assert "whsec" not in text


def a_worker(*, ahead: timedelta = timedelta(0)) -> Worker:
    """Return a worker whose last heartbeat is this much ahead of `NOW`."""
    return Worker(
        id=WorkerId(uuid4()),
        host="here",
        pid=1,
        version="0",
        slots=1,
        started_at=NOW,
        heartbeat_at=NOW + ahead,
    )


@pytest.mark.parametrize(
    ("count", "may_share", "statuses"),
    [(1, False, []), (2, False, ["warning"]), (2, True, [])],
)
def test_two_writers_on_an_old_sqlite_are_a_warning(
    count: int,
    may_share: bool,  # noqa: FBT001 - a table
    statuses: list[str],
) -> None:
    """A rare race in its write-ahead log can corrupt the file."""
    found = diagnosis.judge_writers([a_worker()] * count, may_share=may_share)

    assert [finding.status for finding in found] == statuses


def test_a_heartbeat_from_the_future_is_a_warning() -> None:
    """Clock differences can make live workers look dead."""
    found = diagnosis.judge_clocks([a_worker(ahead=timedelta(minutes=1))], ahead=ZERO, now=NOW)

    assert [(finding.subject, finding.status) for finding in found] == [("clock", "warning")]


@pytest.mark.parametrize(("seconds", "statuses"), [(0, []), (-90, ["warning"]), (3, ["warning"])])
def test_a_difference_from_the_database_s_clock_is_a_warning(
    seconds: int, statuses: list[str]
) -> None:
    """Everything is timed by the database's clock; logs of this machine have other times."""
    found = diagnosis.judge_clocks([], ahead=timedelta(seconds=seconds), now=NOW)

    assert [finding.status for finding in found] == statuses


def test_a_missing_coordinator_is_an_error() -> None:
    """Without one no jobs are admitted."""
    worker = a_worker()

    held = diagnosis.judge_coordinator(worker.id, [worker])
    vacant = diagnosis.judge_coordinator(None, [worker])
    dead = diagnosis.judge_coordinator(worker.id, [])

    assert [one.status for one in (held, vacant, dead)] == ["ok", "error", "error"]
    assert held.message == f"worker {worker.id}"
    assert "fleek worker" in dead.advice


@pytest.mark.parametrize(("year", "status"), [(1970, "error"), (2027, "ok")])
def test_a_clock_in_the_past_is_an_error(year: int, status: str) -> None:
    """A board without a battery starts in 1970."""
    clock = doctor._time(datetime(year, 1, 1, tzinfo=UTC))

    assert clock.status == status


@pytest.mark.parametrize(
    ("free", "status"), [(10**12, "ok"), (10**8, "warning"), (10**6, "error")]
)
def test_little_disk_space_is_reported(free: int, status: str) -> None:
    """Before the disk is full."""
    disk = doctor._judge_space("disk", Path("/data"), free=free)

    assert disk.status == status
    assert "/data" in disk.message


@pytest.mark.parametrize(("schema", "status"), [({"type": "object"}, "ok"), (None, "warning")])
async def test_a_model_without_a_schema_is_a_warning(schema: object, status: str) -> None:
    """Jobs are accepted but may have to wait; the configured model is checked."""

    async def schema_of(model: str) -> object:
        return schema if model == "acme/draw" else pytest.fail(f"asked for {model}")

    provider: Any = SimpleNamespace(default_model="acme/other", schema=schema_of)

    finding = await diagnosis.check_provider(provider, "acme", model="acme/draw")

    assert finding.status == status
    assert "acme/draw" in finding.message


async def test_a_storage_that_cannot_be_created_is_an_error(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is in the place of the folder."""
    (tmp_path / "storage").touch()
    monkeypatch.setenv("STORAGE_PATH", str(tmp_path / "storage"))

    (storage,) = of(await examine(settings), "storage")

    assert storage.status == "error"
    assert "STORAGE_PATH" in storage.advice


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("providers", "PROVIDERS"),
        ("dispatch", "DISPATCH"),
        ("storage_backend", "STORAGE_BACKEND"),
    ],
)
async def test_an_unknown_adapter_is_an_error(
    settings: Settings, field: str, setting: str
) -> None:
    """The message has the valid choices."""
    wrong = settings.model_copy(update={field: ("acme",) if field == "providers" else "acme"})

    errors = [finding for finding in await examine(wrong) if finding.status == "error"]

    (error,) = errors
    assert error.message.startswith(f"{setting}=acme: unknown; choose one of:")


@asynccontextmanager
async def answering(body: bytes) -> AsyncGenerator[int]:
    """Yield the port of a server that sends this response to every request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with listening(answer) as url:
        yield port_of(url)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"service": "fleek-media-service", "status": "healthy"}', "ok"),
        (b'{"service": "fleek-media-service", "status": "degraded"}', "warning"),
        (b'{"service": "acme"}', "error"),
        (b"<html>", "error"),
    ],
    ids=["ours", "ours, ill", "another", "not json"],
)
async def test_the_program_on_the_port_is_recognized(
    settings: Settings, body: bytes, status: str
) -> None:
    """Fleek itself may use it; another program is an error."""
    async with answering(body) as number:
        (port,) = of(await examine(settings.model_copy(update={"api_port": number})), "port")

    assert port.status == status


async def test_a_public_address_without_keys_is_a_warning(settings: Settings) -> None:
    """Even if the setting allows it."""
    anywhere = {"api_host": "0.0.0.0", "allow_anonymous": True}  # noqa: S104 - only described

    (access,) = of(await examine(settings.model_copy(update=anywhere)), "access")

    assert access.status == "warning"


@pytest.mark.parametrize(
    ("base", "found"),
    [(None, 1), ("https://media.example/media", 0), ("https://fleek.example/files", 1)],
)
async def test_media_on_the_api_s_origin_are_a_warning(
    settings: Settings, base: str | None, found: int
) -> None:
    """Generated content must not be able to act as the API's own page."""
    public = {"public_url": "https://fleek.example", "storage_base_url": base}

    findings = of(await examine(settings.model_copy(update=public)), "media")

    assert len(findings) == found
    assert all("STORAGE_BASE_URL" in finding.advice for finding in findings)


async def test_paused_providers_are_reported(settings: Settings) -> None:
    """With the reason, the time and advice; a single failure is not reported."""
    now = datetime.now(UTC)
    async with open_database(settings.database_url) as db:
        await migrate(db)
        for provider, code in (
            ("unpaid", "provider_payment_required"),
            ("revoked", "provider_unauthorized"),
            ("busy", "any"),
        ):
            until = now + timedelta(minutes=5)
            await provider_health.pause(
                db, provider, until=until, reason=code, trial=True, now=now
            )
        for provider, pause in (("broken", timedelta(hours=1)), ("well", None)):
            await provider_health.fail(
                db,
                provider,
                "a/model",
                reason="provider_unreachable",
                pauses={1: pause}.get,
                now=now,
            )

    findings = await examine(settings)

    (unpaid,), (busy,), (broken,) = (of(findings, name) for name in ("unpaid", "busy", "broken"))
    (revoked,) = of(findings, "revoked")
    assert (unpaid.status, busy.status, broken.status) == ("error", "warning", "warning")
    assert "pay" in unpaid.advice
    assert revoked.status == "error"
    assert "token" in revoked.advice
    assert "a/model" in broken.message
    assert "provider_unreachable" in broken.message
    assert of(findings, "well") == []


async def test_an_ignored_proxy_is_a_warning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operators who set it expect it to be used; the placeholder sends no requests."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:C4n4ry@proxy:3128")
    replicate = settings.model_copy(update={"providers": ("replicate",)})

    (finding,) = await doctor._proxy(replicate)

    assert finding.status == "warning"
    assert "HTTPS_PROXY" in finding.message
    assert "REPLICATE_PROXY" in finding.advice
    assert "C4n4ry" not in f"{finding}"
    assert await doctor._proxy(settings) == []
