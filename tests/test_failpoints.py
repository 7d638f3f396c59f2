"""Named places at which tests hurt this process: nothing unless armed, and only what was ordered."""

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
    """Leave nothing armed for whoever comes next."""
    yield
    failpoints.arm("")


def strikes(name: str, times: int) -> list[str]:
    """Pass a place so many times; tell what happened at each."""
    seen = []
    for _ in range(times):
        try:
            failpoints.hit(name)
        except (OSError, DatabaseUnavailable) as error:
            seen.append(type(error).__name__)
        else:
            seen.append("-")
    return seen


def test_nothing_is_armed_unless_asked() -> None:
    """In production every place is passed."""
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
def test_it_strikes_where_and_when_it_was_ordered(orders: str, seen: list[str]) -> None:
    """A sweep needs the second of several hits as well as the first."""
    failpoints.arm(orders)

    assert strikes("here", 3) == seen


@pytest.mark.parametrize("action", ["enospc", "erofs", "emfile"])
def test_the_system_s_own_refusals_can_be_had(action: str) -> None:
    """A disk that is full, a folder that is read-only, no descriptors left."""
    failpoints.arm(f"here={action}")

    with pytest.raises(OSError, match="failpoint here") as caught:
        failpoints.hit("here")

    assert caught.value.errno == getattr(errno, action.upper())


def test_arming_again_disarms_the_rest() -> None:
    """Orders are the whole truth, not an addition."""
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
def test_orders_that_cannot_be_read_are_refused(orders: str) -> None:
    """A typing mistake would make a test that tests nothing."""
    with pytest.raises(ConfigurationError, match="FLEEK_FAILPOINTS"):
        failpoints.arm(orders)


def test_kill_ends_the_process_at_once() -> None:
    """As a loss of power would: nothing behind the place is reached."""
    program = PASS_TWICE.format(orders="here=kill@2")

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)  # noqa: S603 - our own words

    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"once\n"
    assert b"failpoint here kill" in done.stderr


def test_freeze_waits_for_somebody_to_continue_it() -> None:
    """As a process is frozen by a debugger, a swap storm or a suspended machine."""
    program = PASS_TWICE.format(orders="here=freeze")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:  # noqa: S603 - our own words
        _, status = os.waitpid(process.pid, os.WUNTRACED)

        process.send_signal(signal.SIGCONT)

        assert os.WIFSTOPPED(status)
        assert process.communicate()[0] == b"once\ntwice\n"
