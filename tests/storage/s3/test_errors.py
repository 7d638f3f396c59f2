"""Errors of a bucket are one line without secrets."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from backing_services import free_port
from fleek.domain.errors import ConfigurationError, NotFound, StorageError, StorageFull
from fleek.domain.media import Key
from fleek.storage.base import Storage
from fleek.storage.s3 import connect
from fleek.storage.s3.errors import (
    S3BucketMissing,
    S3ClockWrong,
    S3KeysRefused,
    S3RegionWrong,
    S3RightsMissing,
    S3Unreachable,
)
from listening import listening
from s3server import KEY, SECRET, S3Server

PICTURE = Key("media/0190-a/0190-b/0-00ff.png")

Answering = Callable[[int, str], AbstractAsyncContextManager[Storage]]


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answering:
    """Return a function that opens a storage on a server with one response to every request.

    It succeeds until the storage is open.
    """

    @asynccontextmanager
    async def opened(status: int, code: str) -> AsyncGenerator[Storage]:
        answers = ['HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n']

        async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lengths = [
                    line for line in head.lower().split(b"\r\n") if b"content-length:" in line
                ]
                await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                writer.write(answers[-1].encode())
                await writer.drain()

        async with listening(visit) as url:
            for name, value in S3Server(1).settings("a-bucket", tmp_path).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("S3_ENDPOINT_URL", url)
            async with connect() as storage:
                body = (
                    f"<Error><Code>{code}</Code><Message>{SECRET}</Message>"
                    f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"
                )
                answers.append(
                    f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                )
                yield storage

    return opened


ERRORS = {
    "keys": (403, "InvalidAccessKeyId", S3KeysRefused, "S3_ACCESS_KEY_ID"),
    "secret": (403, "SignatureDoesNotMatch", S3KeysRefused, "S3_SECRET_ACCESS_KEY"),
    "R2's keys": (401, "Unauthorized", S3KeysRefused, "S3_ACCESS_KEY_ID"),
    "token": (400, "ExpiredToken", S3KeysRefused, "session token"),
    "rights": (403, "AccessDenied", S3RightsMissing, "put, get, delete and list"),
    "bucket": (404, "NoSuchBucket", S3BucketMissing, "S3_BUCKET"),
    "region": (400, "AuthorizationHeaderMalformed", S3RegionWrong, "S3_REGION"),
    "clock": (403, "RequestTimeTooSkewed", S3ClockWrong, "clock"),
    "changed": (400, "XAmzContentSHA256Mismatch", StorageError, "corrupted in transit"),
    "full": (507, "XMinioStorageFull", StorageFull, "no free space"),
    "quota": (403, "QuotaExceeded", StorageFull, "no free space"),
    "busy": (503, "SlowDown", StorageError, "limits the rate of requests"),
    "not S3": (405, "", StorageError, "405; check S3_ENDPOINT_URL"),
    "something new": (409, "Newfangled", StorageError, "409 Newfangled"),
}


@pytest.mark.parametrize(("status", "code", "kind", "words"), ERRORS.values(), ids=ERRORS.keys())
async def test_each_error_has_its_advice(
    answering: Answering, status: int, code: str, kind: type[StorageError], words: str
) -> None:
    """Operators learn what to do, and the message has no secret."""
    async with answering(status, code) as storage:
        with pytest.raises(StorageError) as caught:
            await storage.check()

    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert not {KEY, SECRET} & set(str(caught.value).replace(";", " ").split())
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchBucket", S3BucketMissing),
        (404, "NoSuchKey", NotFound),
        (403, "AccessDenied", S3RightsMissing),
    ],
)
async def test_a_missing_bucket_is_not_a_missing_file(
    answering: Answering, status: int, code: str, kind: type[Exception]
) -> None:
    """Otherwise a wrong setting would make every picture look purged."""
    async with answering(status, code) as storage:
        with pytest.raises(kind):
            await anext(aiter(storage.read(PICTURE)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"S3_SECRET_ACCESS_KEY": "wrong-hush"}, "S3_SECRET_ACCESS_KEY"),
        ({"S3_ACCESS_KEY_ID": "nobody-hush"}, "S3_ACCESS_KEY_ID"),
        ({"S3_BUCKET": "no-such-bucket"}, "create it, or check S3_BUCKET"),
        ({"S3_REGION": "mars-1"}, "S3_REGION"),
    ],
    ids=["secret", "key", "bucket", "region"],
)
async def test_an_invalid_setting_stops_the_start(
    bucket: str, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], words: str
) -> None:
    """Found later, it would fail a job that is paid for."""
    assert bucket
    for name, value in changed.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=words) as caught:
        async with connect():
            pass

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("gone", ["stat", "read", "delete", "keys"])
async def test_a_removed_bucket_is_not_a_missing_file(
    server: S3Server, bucket: str, storage: Storage, gone: str
) -> None:
    """Each call distinguishes them, even if the response of S3 has no body."""
    server.remove_bucket(bucket)

    with pytest.raises(S3BucketMissing):
        await CALLS[gone](storage)


async def _list_all(storage: Storage) -> None:
    _ = [stored async for stored in storage.keys("")]


CALLS = {
    "stat": lambda storage: storage.stat(PICTURE),
    "read": lambda storage: anext(aiter(storage.read(PICTURE))),
    "delete": lambda storage: storage.delete(PICTURE),
    "keys": _list_all,
}


async def test_an_unreachable_server_does_not_stop_the_start(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may return, and media wait for it."""
    assert bucket
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    with capture_logs() as logs:
        async with connect() as storage:
            with pytest.raises(S3Unreachable, match="check S3_ENDPOINT_URL"):
                await storage.check()

    assert [one["event"] for one in logs] == ["storage_unavailable"]
    assert logs[0]["log_level"] == logging.getLevelName(logging.WARNING).lower()


async def test_a_server_without_a_trusted_certificate_is_named(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message helps with https for a server that only speaks http."""
    assert bucket
    monkeypatch.setenv("S3_ENDPOINT_URL", server.url.replace("http:", "https:"))

    with capture_logs():
        async with connect() as storage:
            with pytest.raises(S3Unreachable, match="S3_ENDPOINT_URL"):
                await storage.check()


async def test_a_spool_that_is_a_link_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared folder, another user may have created it."""
    assert bucket
    (tmp_path / "spool").symlink_to(tmp_path)
    monkeypatch.setenv("S3_SPOOL_PATH", str(tmp_path / "spool"))

    with pytest.raises(ConfigurationError, match="S3_SPOOL_PATH"):
        async with connect():
            pass
