"""Failpoints: inactive unless armed, and limited to what was configured."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from typing import Final

import pytest

from fleek import failpoints
from fleek.domain.errors import ConfigurationError, DatabaseUnavailable

PASS_TWICE: Final = (
    "from fleek import failpoints\n"
    "failpoints.arm({orders!r})\n"
    "failpoints.hit('here')\n"
    "print('once', flush=True)\n"
    "failpoints.hit('here')\n"
    "print('twice', flush=True)\n"
)


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave nothing armed for the next test."""
    yield
    failpoints.arm("")


def strikes(name: str, times: int) -> list[str]:
    """Pass a failpoint this many times; return the result of each."""
    seen = []
    for _ in range(times):
        try:
            failpoints.hit(name)
        except (OSError, DatabaseUnavailable) as error:
            seen.append(type(error).__name__)
        else:
            seen.append("-")
    return seen


def test_failpoints_are_inactive_by_default() -> None:
    """As in production."""
    failpoints.arm("")

    assert strikes("here", 3) == ["-", "-", "-"]


@pytest.mark.parametrize(
    ("orders", "seen"),
    [
        ("here=oserror", ["OSError", "-", "-"]),
        ("here=dberror@2", ["-", "DatabaseUnavailable", "-"]),
        ("here=dberror@*", ["DatabaseUnavailable"] * 3),
        ("there=oserror@*", ["-", "-", "-"]),
        ("here=enospc@2-3", ["-", "OSError", "OSError"]),
        ("there=oserror, here=oserror@3", ["-", "-", "OSError"]),
    ],
)
def test_a_failpoint_is_active_at_the_configured_hits(orders: str, seen: list[str]) -> None:
    """The sweep needs the second of several hits as well as the first."""
    failpoints.arm(orders)

    assert strikes("here", 3) == seen


@pytest.mark.parametrize("action", ["enospc", "erofs", "emfile"])
def test_a_failpoint_can_raise_system_errors(action: str) -> None:
    """A full disk, a read-only folder, no descriptors left."""
    failpoints.arm(f"here={action}")

    with pytest.raises(OSError, match="failpoint here") as caught:
        failpoints.hit("here")

    assert caught.value.errno == getattr(errno, action.upper())


def test_arming_again_replaces_the_configuration() -> None:
    """Orders are complete, not additional."""
    failpoints.arm("here=oserror@*")

    failpoints.arm("there=oserror@*")

    assert strikes("here", 1) == ["-"]


@pytest.mark.parametrize(
    "orders",
    [
        "here",
        "here=",
        "=kill",
        "here=explode",
        "here=kill@",
        "here=kill@0",
        "here=kill@x",
        "here=kill@2-",
    ],
)
def test_invalid_orders_are_refused(orders: str) -> None:
    """With a typing error a test would test nothing."""
    with pytest.raises(ConfigurationError, match="FLEEK_FAILPOINTS"):
        failpoints.arm(orders)


def test_kill_ends_the_process_at_once() -> None:
    """As a power failure would: no later code runs."""
    program = PASS_TWICE.format(orders="here=kill@2")

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)  # noqa: S603 - our own program

    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"once\n"
    assert b"failpoint here kill" in done.stderr


def test_freeze_waits_until_the_process_is_continued() -> None:
    """As with a debugger, heavy swapping or a suspended machine."""
    program = PASS_TWICE.format(orders="here=freeze")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:  # noqa: S603 - our own program
        _, status = os.waitpid(process.pid, os.WUNTRACED)

        process.send_signal(signal.SIGCONT)

        assert os.WIFSTOPPED(status)
        assert process.communicate()[0] == b"once\ntwice\n"
