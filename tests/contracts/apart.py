"""Runs one case of a suite for dispatchers: ``python -m apart DISPATCHER FILE CASE``.

Warnings are errors here, too, also those raised during garbage collection.
"""

import asyncio
import gc
import importlib.util
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from fleek.dispatch import bridge
from fleek.registry import dispatchers, load

PATIENCE_SECONDS = 60.0  # for a broker; a service times out much sooner, and retries


async def run(name: str, case: Any) -> None:
    """Open a dispatcher from the environment, and run the case on it."""
    vars(bridge).update(ANSWER_SECONDS=PATIENCE_SECONDS, CALL_SECONDS=PATIENCE_SECONDS)
    connect = load(dispatchers(), name, setting="DISPATCH")
    warnings.simplefilter("error")
    async with connect() as dispatcher:
        await case(dispatcher)


def main(name: str, file: str, case: str) -> int:
    """Return 0 if the case passes and leaves no task or thread behind."""
    thrown: list[object] = []
    sys.unraisablehook = lambda unraisable: thrown.append(unraisable.exc_value)
    threading.excepthook = lambda failure: thrown.append(failure.exc_value)
    spec = importlib.util.spec_from_file_location("cases", file)
    assert spec is not None
    assert spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    asyncio.run(run(name, getattr(cases, case)))
    gc.collect()
    print(*thrown, sep="\n")  # noqa: T201 - for the parent process
    return len(thrown)


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parents[1]))  # modules of the tests
    sys.exit(main(*sys.argv[1:]))
