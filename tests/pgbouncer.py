"""A real PgBouncer for tests, in transaction pooling, before the PostgreSQL of the run.

It is ``pgbouncer`` from ``PATH`` or ``/usr/sbin``. Where it is not installed, the package of Debian
or Ubuntu is downloaded and unpacked into a cache: nothing is installed, and root is not needed.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from backing_services import NotStarted, Postgres, free_port

PATIENCE: Final = 120.0  # seconds
PACKAGES: Final = ("pgbouncer", "libc-ares2", "libevent-2.1-7|libevent-2.1-7t64")

CONFIGURATION: Final = """[databases]
* = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 100
server_lifetime = 1
server_round_robin = 1
"""


@contextmanager
def pgbouncer(server: Postgres, name: str, *, servers: int = 3) -> Iterator[str]:
    """Start PgBouncer, and yield the ``DATABASE_URL`` of this database through it.

    Transactions alternate between `servers` connections, so that two in a row rarely share one.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-", dir="/tmp") as folder:
        path = Path(folder)
        path.chmod(0o755)
        ini = path / "pgbouncer.ini"
        user = "postgres"
        text = CONFIGURATION.format(port=server.port, own_port=port, servers=servers)
        ini.write_text(text.replace("* =", f"{name} = user={user} dbname={name}"))
        process = _start(ini)
        try:
            _await(process, port)
            yield f"postgresql://{user}@127.0.0.1:{port}/{name}?connect_timeout={PATIENCE:.0f}"
        finally:
            process.kill()
            process.wait(PATIENCE)


def _start(ini: Path) -> subprocess.Popen[bytes]:
    program, libraries = _program()
    who = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # it refuses to be root
    return subprocess.Popen(  # noqa: S603 - a program that the developer chose
        [program, ini],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": libraries},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # ctrl-c is for pytest
        user=who.pw_uid if who else None,
        group=who.pw_gid if who else None,
        extra_groups=() if who else None,
    )


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotStarted(f"PgBouncer on port {port} does not answer")
        time.sleep(0.01)


def _program() -> tuple[Path, str]:
    """Return the program and the folder of its libraries.

    Raises:
        NotStarted: It is not installed and cannot be downloaded.
    """
    for found in (shutil.which("pgbouncer"), "/usr/sbin/pgbouncer"):
        if found and Path(found).exists():
            return Path(found), ""
    unpacked = Path("/var/tmp") / f"fleek-tests-pgbouncer-{os.getuid()}"
    if not (unpacked / "usr/sbin/pgbouncer").exists():
        _unpack(unpacked)
    libraries = ":".join(map(str, (unpacked / "usr/lib").glob("*-linux-gnu")))
    return unpacked / "usr/sbin/pgbouncer", libraries


def _unpack(place: Path) -> None:
    """Download and unpack the packages atomically."""
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        for package in PACKAGES:
            if not any(_fetched(name, folder) for name in package.split("|")):
                raise NotStarted(
                    f"no PgBouncer: put pgbouncer on PATH (apt-get download {package} failed)"
                )
        whole = Path(folder) / "whole"
        for package_file in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package_file, whole], check=True)  # noqa: S603, S607 - of the system
        whole.chmod(0o755)
        with suppress(OSError):  # another process was faster
            whole.rename(place)


def _fetched(package: str, folder: str) -> bool:
    """Download a package; update the lists of packages first if they are missing."""
    download = ("download", "-q", package)
    return _apt(*download, folder=folder) or (
        _apt("update", "-q", folder=folder) and _apt(*download, folder=folder)
    )


def _apt(*arguments: str, folder: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - of the system
            ["apt-get", *arguments],  # noqa: S607 - likewise
            cwd=folder,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0
