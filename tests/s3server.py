"""A real S3 server for tests, which checks every signature: see `swiftserver`."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal
from uuid import uuid4

import httpx2
import obstore
from obstore.store import S3Store

from authorities import trusted
from backing_services import NotStarted, Services, free_port

KEY: Final = "test:tester"
SECRET: Final = "testing"  # valid only for servers of the tests
PATIENCE_SECONDS: Final = 120
PROGRAM: Final = Path(__file__).parent / "swiftserver.py"


class S3Server:
    """A server that listens on `port` of the loopback."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def store(self, bucket: str) -> S3Store:
        """Return a bucket with its owner's rights."""
        return S3Store(
            bucket,
            endpoint=self.url,
            region="us-east-1",
            access_key_id=KEY,
            secret_access_key=SECRET,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def make_bucket(self) -> str:
        """Create a bucket and return its name."""
        bucket = f"bucket-{uuid4().hex}"
        self._ask("PUT", bucket)
        return bucket

    def remove_bucket(self, bucket: str) -> None:
        """Remove an empty bucket."""
        self._ask("DELETE", bucket)

    def _ask(self, method: Literal["PUT", "DELETE"], bucket: str) -> None:
        address = obstore.sign(self.store(bucket), method, "", timedelta(minutes=1))
        httpx2.request(method, address, timeout=PATIENCE_SECONDS).raise_for_status()

    def settings(self, bucket: str, folder: Path) -> Mapping[str, str]:
        """Return the environment of a service that stores its files in this bucket."""
        return {
            "STORAGE_BACKEND": "s3",
            "S3_ENDPOINT_URL": self.url,
            "S3_BUCKET": bucket,
            "S3_ACCESS_KEY_ID": KEY,
            "S3_SECRET_ACCESS_KEY": SECRET,
            "S3_SPOOL_PATH": str(folder / "spool"),
        }


class OwnS3(S3Server):
    """A server for one test, which may kill, freeze and restart it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        super().__init__(self._port)
        self.start()

    def start(self) -> None:
        """Start the server with its stored files, and wait until it answers."""
        self._process = _start(self._folder, self._port)

    def freeze(self) -> None:
        """Let it accept connections without answering."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, as a power failure would."""
        self._process.kill()
        self._process.wait()


def shared_s3(services: Services) -> S3Server:
    """Return the server of this test run, started by the first process that needs it."""

    def started() -> str:
        port = free_port()
        _start(services.folder / "s3", port, "--detach").wait()
        return str(port)

    return S3Server(int(services.once("s3", started)))


@contextmanager
def own_s3(services: Services) -> Iterator[OwnS3]:
    """Start a server for one caller."""
    server = OwnS3(services.folder / f"s3-{uuid4().hex}")
    try:
        yield server
    finally:
        server.kill()


def _start(folder: Path, port: int, *options: str) -> "subprocess.Popen[bytes]":
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, PROGRAM, folder, str(port), *options],
            stdout=log,
            stderr=log,
            start_new_session=True,  # ctrl-c is for pytest
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and not process.poll():
        try:
            httpx2.get(f"http://127.0.0.1:{port}/", verify=trusted(), timeout=PATIENCE_SECONDS)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return process
    process.kill()
    process.wait()
    raise NotStarted(f"Swift did not start: see {folder}/log")
