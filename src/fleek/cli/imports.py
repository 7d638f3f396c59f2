"""What a process imports."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_rich() -> Iterator[None]:
    """Import modules without rich, which the log's library loads for tracebacks that we never draw.

    It is a twentieth of what a service imports.
    """
    if "rich" in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules["rich"] = None  # its import fails
    try:
        yield
    finally:
        del modules["rich"]
