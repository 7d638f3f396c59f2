"""Slow servers: a line says so, and --timeout ends the wait."""

from typing import Any

import pytest

from fleek.cli.options import Session
from fleek.cli.screen import Screen
from fleek.cli.slow import SlowNotice


def test_a_slow_server_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Silence has a reason then; retries do not repeat it."""
    notice = SlowNotice(Screen(), "http://slow.test", after=0)
    (sent,) = notice.hooks["request"]

    sent(None)
    assert notice._timer is not None
    notice._timer.join()
    sent(None)
    notice.stop()

    assert capsys.readouterr().err.count("http://slow.test is slow") == 1


def test_a_response_in_time_is_not_mentioned() -> None:
    """The timer ends with it."""
    notice = SlowNotice(Screen(), "http://quick.test", after=600)

    notice.hooks["request"][0](None)
    timer = notice._timer
    notice.hooks["response"][0](None)

    assert timer is not None
    assert timer.finished.is_set()


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 30), (5, 5), (600, 30), (0, 1)])
def test_the_timeout_limits_each_answer_with_its_retries(
    timeout: float | None, seconds: float
) -> None:
    """A server that accepts and never answers took 107 seconds."""
    options: dict[str, Any] = dict.fromkeys(("as_json", "quiet", "no_color"), False)

    with Session("http://x.test", api_key=None, timeout=timeout, **options) as session:
        policy = session.client._retry_policy

    assert policy.total_seconds == seconds


@pytest.mark.parametrize("command", ["list", "models", "usage", "status", "cancel", "health"])
def test_every_command_has_a_timeout(fleek: Any, command: str) -> None:
    """Not only those that wait for jobs."""
    assert "--timeout SECONDS" in fleek(command, "--help").out
