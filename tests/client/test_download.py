"""Files arrive whole, where we say, and the key stays with the server."""

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
def looked(a_job: Maker, an_output: Maker) -> httpx2.Response:
    """Return the answer that describes a completed job with one picture."""
    return httpx2.Response(200, json=a_job("completed", outputs=[an_output(SHA256)]))


def picture() -> httpx2.Response:
    """Return the bytes, with a name that must not be used."""
    names = {"content-disposition": 'attachment; filename="../../evil.sh"'}
    return httpx2.Response(200, content=BYTES, headers=names)


def test_into_a_folder_under_our_own_name(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """What the server calls the file is never part of a path."""
    server.script = [looked, picture()]

    path = client.download(JOB, tmp_path)

    assert path == tmp_path / f"{JOB}.png"
    assert path.read_bytes() == BYTES
    assert server.requests[1].url == f"http://fleek.test/api/v1/download/{JOB}?index=0"
    assert list(tmp_path.iterdir()) == [path]


def test_into_the_current_folder_by_default(
    client: Client,
    server: Any,
    looked: httpx2.Response,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As curl and wget do."""
    monkeypatch.chdir(tmp_path)
    server.script = [looked, picture()]

    path = client.download(JOB)

    assert (tmp_path / path).read_bytes() == BYTES


def test_onto_a_path_that_is_replaced(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """A link at the target is replaced, not followed."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    link = tmp_path / "cat.png"
    link.symlink_to(precious)
    server.script = [looked, picture()]

    client.download(JOB, link)

    assert precious.read_text() == "mine"
    assert not link.is_symlink()
    assert link.read_bytes() == BYTES


def test_an_unknown_type_ends_in_bin(
    client: Client, server: Any, a_job: Maker, an_output: Maker, tmp_path: Path
) -> None:
    """The type is the server's word too, and only chooses from our own list of endings."""
    output = an_output(SHA256, content_type="../x/sh", index=2)
    server.script = [httpx2.Response(200, json=a_job("completed", outputs=[output])), picture()]

    path = client.download(JOB, tmp_path, index=2)

    assert path.name == f"{JOB}-2.bin"


def test_files_that_were_purged_are_gone(
    client: Client, server: Any, a_job: Maker, tmp_path: Path
) -> None:
    """The job says so: nothing is asked for in vain, and nobody looks for a mistake."""
    gone = a_job("completed", purged_at="2026-01-02T03:04:05Z")
    server.script = [httpx2.Response(200, json=gone)]

    with pytest.raises(Gone):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_damaged_bytes_are_fetched_again(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """The job says which bytes it has; any others were cut or changed on their way."""
    server.script = [looked, httpx2.Response(200, content=b"\x89P"), picture()]

    path = client.download(JOB, tmp_path)

    assert path.read_bytes() == BYTES


def test_bytes_that_stay_damaged_leave_nothing(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """Half a file looks like a file."""
    server.script = [looked, *(httpx2.Response(200, content=b"x") for _ in range(3))]

    with pytest.raises(Exception, match="damaged"):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_no_such_output(client: Client, server: Any, a_job: Maker, tmp_path: Path) -> None:
    """A job that goes on has none yet."""
    server.script = [httpx2.Response(200, json=a_job("processing"))]

    with pytest.raises(NotFound, match="processing and has no output 0"):
        client.download(JOB, tmp_path)


def test_a_purged_file_is_gone(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """The refusal of a download is read like any other."""
    gone = httpx2.Response(410, json={"detail": "purged"})
    server.script = [looked, gone]

    with pytest.raises(Gone, match="purged"):
        client.download(JOB, tmp_path)


def test_the_key_stays_with_the_server(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """A storage that serves the bytes itself must not learn the key."""
    there = {"location": "http://store.test/signed?x=1"}
    server.script = [looked, httpx2.Response(302, headers=there), picture()]

    path = client.download(JOB, tmp_path)

    assert path.read_bytes() == BYTES
    keys = [request.headers.get("authorization") for request in server.requests]
    assert keys == ["Bearer secret", "Bearer secret", None]


def test_the_key_goes_along_on_the_same_server(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """A redirect to another path of it is answered only to those with the key."""
    server.script = [looked, httpx2.Response(302, headers={"location": "/media/x"}), picture()]

    client.download(JOB, tmp_path)

    assert server.requests[2].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "http://x:y", ""])
def test_where_a_redirect_may_not_lead(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path, location: str
) -> None:
    """Only to http and https, and never in circles."""
    server.script = [
        looked,
        *(httpx2.Response(302, headers={"location": location}) for _ in range(4)),
    ]

    with pytest.raises(ServerError, match="redirect"):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(
    client: Client, server: Any, looked: httpx2.Response, tmp_path: Path
) -> None:
    """The reason is in the system's words."""
    server.script = [looked, picture()]

    with pytest.raises(NotSaved, match="No such file or directory"):
        client.download(JOB, tmp_path / "missing" / "cat.png")


def test_a_full_disk_leaves_nothing(
    client: Client,
    server: Any,
    looked: httpx2.Response,
    tmp_path: Path,
) -> None:
    """What was begun is removed."""

    class Full(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Any:
            yield b"\x89"
            raise OSError(errno.ENOSPC, "No space left on device")

        async def __aiter__(self) -> Any:
            yield b"\x89"
            raise OSError(errno.ENOSPC, "No space left on device")

    server.script = [looked, httpx2.Response(200, stream=Full())]

    with pytest.raises(NotSaved, match="No space left"):
        client.download(JOB, tmp_path)

    assert list(tmp_path.iterdir()) == []
