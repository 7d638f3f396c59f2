"""One module reads the wall clock, and tests can shift it."""

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import fleek
from fleek.system_clock import shift_from, steady_seconds, wall_time

SOURCE = Path(fleek.__file__).parent
READ_THE_WALL_CLOCK = {"system_clock.py", "emulator/clock.py"}  # the emulator has its own clock
READINGS = {
    "date.today",
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "time.gmtime",
    "time.localtime",
    "time.time",
    "time.time_ns",
}


@pytest.fixture
def shift_file(tmp_path: Path) -> Iterator[Path]:
    """Return a file by which this process's wall clock is shifted."""
    path = tmp_path / "shift"
    shift_from(path)
    yield path
    shift_from(None)


def readings(path: Path) -> set[str]:
    """Return the calls in a module that read the wall clock."""
    tree = ast.parse(path.read_text())
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {ast.unparse(call) for call in calls} & READINGS


@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_no_other_module_reads_the_wall_clock() -> None:
    """Otherwise tests could not control the time."""
    modules = {str(path.relative_to(SOURCE)): path for path in SOURCE.rglob("*.py")}

    reading = {name for name, path in modules.items() if readings(path)}

    assert reading == READ_THE_WALL_CLOCK


@pytest.mark.parametrize("seconds", [0.0, 90.0, 3600.0, -86_400.0])
def test_a_file_shifts_only_the_wall_clock(shift_file: Path, seconds: float) -> None:
    """It is read each time, so that a running process can be stepped."""
    before = steady_seconds()
    shift_file.write_text(f"{seconds}\n")

    shifted = wall_time() - datetime.now(UTC)

    assert abs(shifted - timedelta(seconds=seconds)) < timedelta(seconds=60)
    assert 0 <= steady_seconds() - before < 60


def test_without_a_file_there_is_no_shift(shift_file: Path) -> None:
    """A test may name the file before it writes it."""
    assert not shift_file.exists()

    assert abs(wall_time() - datetime.now(UTC)) < timedelta(seconds=60)


def test_a_shift_stays_while_its_file_cannot_be_opened(shift_file: Path) -> None:
    """Such as in a process without descriptors."""
    shift_file.write_text("3600")
    wall_time()
    shift_file.unlink()

    assert wall_time() - datetime.now(UTC) > timedelta(minutes=59)
