"""Runs checks of a client, and prints what they found as one JSON object: check → result, or its error."""

import json
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any


def report(checks: Iterable[Callable[[], Any]]) -> None:
    """Run each check."""
    results: dict[str, Any] = {}
    for check in checks:
        sys.stderr.write(f"{check.__name__}\n")
        sys.stderr.flush()
        try:
            results[check.__name__] = check()
        except Exception as error:  # noqa: BLE001 - it is the result
            traceback.print_exc()
            results[check.__name__] = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(results))
