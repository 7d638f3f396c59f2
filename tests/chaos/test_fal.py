"""Crash points and a storm with fal's queue: no list, and a callback for each request."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from chaos.checker import Terms, check
from chaos.faults import UNKNOWN
from chaos.host import FalHost
from chaos.rig import STILL, rigged
from chaos.storm import SETTINGS, Storm, run
from chaos.sweep import REFUSED, Leg, plan, run_leg
from chaos.test_storm import PATIENT

RUN_AND_RESTART: Final = 90  # seconds of the longest prediction, and of a start on a busy machine
KILLS: Final = ("start.send", "start.sent", "waiting.write", "predicted.write", "callback.adopt")


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[FalHost]:
    """Yield an emulator for a single test."""
    host = FalHost(tmp_path, seed=1)
    yield host
    host.close()


def test_a_request_is_paid_for_once_after_any_crash(host: FalHost, tmp_path: Path) -> None:
    """Its callback finds it; without one the job fails, and nothing is sent again."""
    plan(host, seed=3)
    settings = {"ATTEMPT_TIMEOUT": "15", "FAL_CALLBACK_WAIT": str(RUN_AND_RESTART)}

    with rigged(tmp_path, host, **settings) as rig:
        for number, name in enumerate(KILLS):
            if number:
                rig.processes[-1].kill()
            run_leg(rig, Leg.of(name, "kill"))
        rig.quiesce(meanwhile=rig.revive, still=STILL + RUN_AND_RESTART)
        violations = check(rig.evidence(), Terms(codes=REFUSED | UNKNOWN, unknown=True))

    assert violations == []


def test_a_short_storm_costs_nothing(host: FalHost, tmp_path: Path) -> None:
    """With kills, lost responses and lost callbacks no request is paid for twice."""
    storm = Storm(seed=7, jobs=60, kills=5, minutes=0.4, wild=False, split=False, by_callback=True)

    with rigged(tmp_path, host, **{**SETTINGS, **PATIENT}) as rig:
        outcome = run(rig, storm)

    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert (outcome.paid.twice, outcome.paid.lost) == (0, 0)
