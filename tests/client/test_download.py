"""Downloads are complete, at the requested path, and the key is sent to the server only."""

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fleek import Client, Gone, NotFound, NotSaved, ServerError

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
BYTES = b"\x89PNG"
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def completed(a_job: Maker, an_output: Maker) -> httpx2.Response:
    """Return the response with a completed job and its picture."""
    return httpx2.Response(200, json=a_job("completed", outputs=[an_output(SHA256)]))


def picture() -> httpx2.Response:
    """Return the bytes, with a file name that must not be used."""
    names = {"content-disposition": 'attachment; filename="../../evil.sh"'}
    return httpx2.Response(200, content=BYTES, headers=names)


def test_a_download_into_a_folder_has_the_job_s_name(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """The server's file name is never part of a path."""
    server.script = [completed, picture()]

    path = client.download(JOB, tmp_path)

    assert path == tmp_path / f"{JOB}.png"
    assert path.read_bytes() == BYTES
    assert server.requests[1].url == f"http://fleek.test/api/v1/download/{JOB}?index=0"
    assert list(tmp_path.iterdir()) == [path]


def test_the_default_folder_is_the_current_one(
    client: Client,
    server: Any,
    completed: httpx2.Response,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with curl and wget."""
    monkeypatch.chdir(tmp_path)
    server.script = [completed, picture()]

    path = client.download(JOB)

    assert (tmp_path / path).read_bytes() == BYTES


def test_an_existing_file_is_replaced(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """A link at the target is replaced, not followed."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    link = tmp_path / "cat.png"
    link.symlink_to(precious)
    server.script = [completed, picture()]

    client.download(JOB, link)

    assert precious.read_text() == "mine"
    assert not link.is_symlink()
    assert link.read_bytes() == BYTES


def test_an_unknown_type_has_the_extension_bin(
    client: Client, server: Any, a_job: Maker, an_output: Maker, tmp_path: Path
) -> None:
    """The type only selects from a list of extensions."""
    output = an_output(SHA256, content_type="../x/sh", index=2)
    server.script = [httpx2.Response(200, json=a_job("completed", outputs=[output])), picture()]

    path = client.download(JOB, tmp_path, index=2)

    assert path.name == f"{JOB}-2.bin"


def test_purged_files_are_not_requested(
    client: Client, server: Any, a_job: Maker, tmp_path: Path
) -> None:
    """The job has the time of the purge."""
    gone = a_job("completed", purged_at="2026-01-02T03:04:05Z")
    server.script = [httpx2.Response(200, json=gone)]

    with pytest.raises(Gone):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_damaged_download_is_repeated(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """The job has the SHA-256 of its files."""
    server.script = [completed, httpx2.Response(200, content=b"\x89P"), picture()]

    path = client.download(JOB, tmp_path)

    assert path.read_bytes() == BYTES


def test_a_repeatedly_damaged_download_leaves_no_file(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """A partial file would look complete."""
    server.script = [completed, *(httpx2.Response(200, content=b"x") for _ in range(3))]

    with pytest.raises(Exception, match="damaged"):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_missing_output_is_not_found(
    client: Client, server: Any, a_job: Maker, tmp_path: Path
) -> None:
    """A running job has none yet."""
    server.script = [httpx2.Response(200, json=a_job("processing"))]

    with pytest.raises(NotFound, match="processing and has no output 0"):
        client.download(JOB, tmp_path)


def test_a_download_that_is_gone_raises_gone(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """Errors of downloads are read like any other."""
    gone = httpx2.Response(410, json={"detail": "purged"})
    server.script = [completed, gone]

    with pytest.raises(Gone, match="purged"):
        client.download(JOB, tmp_path)


def test_the_key_is_not_sent_to_another_host(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """The storage must not receive it."""
    there = {"location": "http://store.test/signed?x=1"}
    server.script = [completed, httpx2.Response(302, headers=there), picture()]

    path = client.download(JOB, tmp_path)

    assert path.read_bytes() == BYTES
    keys = [request.headers.get("authorization") for request in server.requests]
    assert keys == ["Bearer secret", "Bearer secret", None]


def test_the_key_is_sent_again_to_the_same_server(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """Another path of the server may require it."""
    server.script = [completed, httpx2.Response(302, headers={"location": "/media/x"}), picture()]

    client.download(JOB, tmp_path)

    assert server.requests[2].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "http://x:y", ""])
def test_unsafe_and_endless_redirects_are_refused(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path, location: str
) -> None:
    """Only HTTP and HTTPS are allowed."""
    server.script = [
        completed,
        *(httpx2.Response(302, headers={"location": location}) for _ in range(4)),
    ]

    with pytest.raises(ServerError, match="redirect"):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error(
    client: Client, server: Any, completed: httpx2.Response, tmp_path: Path
) -> None:
    """The message is the system's."""
    server.script = [completed, picture()]

    with pytest.raises(NotSaved, match="No such file or directory"):
        client.download(JOB, tmp_path / "missing" / "cat.png")


def test_a_full_disk_leaves_no_file(
    client: Client,
    server: Any,
    completed: httpx2.Response,
    tmp_path: Path,
) -> None:
    """The partial file is removed."""

    class Full(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Any:
            yield b"\x89"
            raise OSError(errno.ENOSPC, "No space left on device")

        async def __aiter__(self) -> Any:
            yield b"\x89"
            raise OSError(errno.ENOSPC, "No space left on device")

    server.script = [completed, httpx2.Response(200, stream=Full())]

    with pytest.raises(NotSaved, match="No space left"):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []
