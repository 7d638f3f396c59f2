"""The display of progress."""

import io
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from fleek.cli import models, progress
from fleek.cli.present import duration, short, size, table
from fleek.cli.progress import Lines, Picture, Silence, display
from fleek.cli.screen import Screen
from fleek.client.models import JobRead, ModelRead

Maker = Callable[..., dict[str, Any]]


def a_terminal(height: int = 24) -> Console:
    """Return a console that writes to a fake terminal."""
    return Console(
        file=io.StringIO(), force_terminal=True, width=100, height=height, color_system=None
    )


def seen(console: Console) -> str:
    """Return what was written there."""
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def screen() -> Screen:
    """Return a screen on two fake terminals."""
    screen = Screen()
    screen.out = a_terminal()
    screen.err = a_terminal()
    return screen


@pytest.fixture
def jobs(a_job: Maker) -> Callable[..., JobRead]:
    """Return a factory of jobs with different ids."""
    return lambda status, **changes: JobRead.from_json(
        a_job(status, **{"id": str(uuid4()), **changes})
    )


def drawn(picture: Picture) -> str:
    """Return the picture as shown on a low terminal."""
    console = a_terminal(height=8)
    console.print(picture._draw())
    return seen(console)


def test_one_job_is_one_line(
    screen: Screen, jobs: Callable[..., JobRead], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its prompt, its status, and the time since it was first seen."""
    seconds = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: seconds))
    picture = Picture(screen)

    picture.show(jobs("processing", progress=0.5, prompt="A cat riding a bicycle"))
    seconds += 7

    (line,) = drawn(picture).splitlines()
    assert "A cat riding a bicycle" in line
    assert "processing" in line
    assert "━" in line
    assert line.rstrip().endswith(" 7 s")


def test_a_waiting_job_has_no_bar(screen: Screen, jobs: Callable[..., JobRead]) -> None:
    """No progress is known yet."""
    picture = Picture(screen)

    picture.show(jobs("pending", queue_position=7))

    assert "pending, 7 before it" in drawn(picture)
    assert "━" not in drawn(picture)


def test_many_jobs_are_counted(screen: Screen, jobs: Callable[..., JobRead]) -> None:
    """A picture higher than the terminal would flicker; running jobs come first."""
    picture = Picture(screen)
    ended = [jobs("completed"), jobs("failed")]
    going = [jobs("pending") for _ in range(10)] + [jobs("processing", prompt="busy")]

    for job in (*ended, *going):
        picture.show(job)

    lines = drawn(picture).splitlines()
    assert len(lines) < 24
    assert "busy" in lines[0]
    assert "… and 1 more" in lines[-1]
    assert "13 jobs: 10 pending, 1 processing, 1 completed, 1 failed" in lines[-1]


def test_ended_jobs_stay_above_the_picture(screen: Screen, jobs: Callable[..., JobRead]) -> None:
    """The picture is removed; the result of each job stays readable."""
    with Picture(screen) as picture:
        job = jobs("processing")
        picture.show(job)
        picture.show(jobs("failed", id=str(job.id), error_message="no paint"))

    assert "✗ a cat  failed after 2.5 s: no paint" in seen(screen.err)
    assert seen(screen.out) == ""


def test_other_output_is_not_overwritten(screen: Screen, jobs: Callable[..., JobRead]) -> None:
    """The picture starts again below it and must not move up to its old place."""
    with Picture(screen) as picture:
        picture.show(jobs("pending", prompt="one"))
        picture.show(jobs("pending", prompt="two"))
        picture._live.refresh()

        with picture.aside():
            picture.say("cat.png")

    below = seen(screen.err).partition("cat.png")[2]
    assert "\x1b[1A" not in below.partition("one")[0]


def test_status_lines_are_not_repeated(
    jobs: Callable[..., JobRead], capsys: pytest.CaptureFixture[str]
) -> None:
    """A log has each status once."""
    lines = Lines(Screen())
    job = jobs("processing")

    lines.show(job)
    lines.show(job)

    assert capsys.readouterr().err == f"{job.id} processing\n"


def test_quiet_shows_nothing(
    jobs: Callable[..., JobRead], capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts want data and errors only."""
    with display(Screen(quiet=True)) as shown:
        shown.show(jobs("processing"))
        shown.say("something")

    assert isinstance(shown, Silence)
    assert capsys.readouterr() == ("", "")


def test_the_display_depends_on_the_terminal(screen: Screen) -> None:
    """A pipe gets lines."""
    assert isinstance(display(screen), Picture)
    assert isinstance(display(Screen()), Lines)


def test_a_terminal_gets_a_table(screen: Screen, jobs: Callable[..., JobRead]) -> None:
    """With titles, ages and symbols."""
    job = jobs("completed", prompt="a [bold]cat[/bold] \x1b[31m")

    table(screen, [job], now=job.created_at + timedelta(minutes=5))

    title, line = seen(screen.out).splitlines()
    assert title.split() == ["ID", "STATUS", "AGE", "MODEL", "PROMPT"]
    cells = (job.id, "✓ completed", "5 min", "fleek/art", "a [bold]cat[/bold…")
    assert line.rstrip() == "  ".join(map(str, cells))


def test_a_terminal_gets_models_as_a_table(screen: Screen) -> None:
    """Long descriptions are wrapped in their column."""
    model = ModelRead(
        name="fleek/art",
        provider="placeholder",
        description="art " * 30,
        output="image",
        default=True,
        parameters=None,
    )

    models._list(screen, [model])

    lines = seen(screen.out).splitlines()
    assert lines[0].split() == ["NAME", "MAKES", "PROVIDER", "DESCRIPTION"]
    assert lines[1].split()[:4] == ["fleek/art", "image", "default", "placeholder"]
    assert lines[2].split() == ["art"] * len(lines[2].split())


def test_a_narrow_terminal_shows_whole_ids(screen: Screen, jobs: Callable[..., JobRead]) -> None:
    """Ids are copied; other columns may be cut."""
    job = jobs("pending")
    screen.out.width = 70

    table(screen, [job], now=job.created_at)

    assert str(job.id) in seen(screen.out)
    assert "MODEL" not in seen(screen.out)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0.0 s"),
        (2.14, "2.1 s"),
        (99, "99.0 s"),
        (240, "4 min"),
        (7200, "2 h"),
        (200_000, "2 d"),
    ],
)
def test_durations_are_readable(seconds: float, said: str) -> None:
    """In a suitable unit."""
    assert duration(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3e9, "3.0 GB")],
)
def test_sizes_are_readable(count: int, said: str) -> None:
    """In a suitable unit."""
    assert size(count) == said


def test_long_text_is_cut() -> None:
    """A prompt may have 10,000 characters."""
    assert short("a" * 50, 10) == "a" * 9 + "…"
