"""What it costs to start the service."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.api import SLOW, WISH
from benchmarks.databases import Databases
from benchmarks.figures import Row, Scale, Series, rounds
from benchmarks.servers import service
from benchmarks.usage import usage

IMPORTS: Final = "import fastapi, uvicorn; print(flush=True); input()"


def start(databases: Databases, scale: Scale) -> Iterator[Row]:
    """From the start of the process to the first accepted job, on a database that exists.

    The yardstick is the import of FastAPI and uvicorn alone.
    """
    url = databases.kept()
    with service(url, SLOW, "--no-worker"):  # writes the schema, and the compiled code
        pass
    ours, bare = Series(), Series()
    walls, imports = Series(), Series()
    for _ in rounds(scale):
        began = time.perf_counter()
        with service(url, SLOW) as server:
            server.send("POST", "/api/v1/generate", WISH)
            walls.values.append(time.perf_counter() - began)
            ours.values.append(server.usage().cpu)
        began = time.perf_counter()
        used = _import()
        imports.values.append(time.perf_counter() - began)
        bare.values.append(used)
    yield Row(
        "P10 start to first job",
        databases.kind,
        f"{ours:.2f} s of processor time; imports alone {bare:.2f} s",
        cpu=f"{bare.middle / ours.middle:.2f}",
        wall=f"{imports.middle / walls.middle:.2f}",
        target="≥ 0.67",
    )


def _import() -> float:
    """Return the seconds of processor time that the imports take."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", IMPORTS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        used = usage(program.pid).cpu
        program.communicate(b"\n")
    return used
