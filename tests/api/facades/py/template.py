"""Import a client, then run the ordered programs, each in a process that is forked from this one.

Argument: the client's module. An order is a line of JSON, and answered with the exit code, see ../../../client_template.py.
"""

import importlib
import json
import os
import runpy
import sys
import traceback
from typing import Any


def become(order: dict[str, Any]) -> None:
    """Make this process one that was just started with the program."""
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["folder"])
    for number, path in ((1, order["output"]), (2, order["errors"])):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [order["program"], *order["arguments"]]


def run(order: dict[str, Any]) -> int:
    """Run the program, and return its exit code."""
    try:
        become(order)
        runpy.run_path(order["program"], run_name="__main__")
    except BaseException:  # noqa: BLE001 - what ends a program is shown
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(run(json.loads(line)))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
