"""Crash points and a storm with ComfyUI: ids of our own, which the server does not compare."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from chaos.checker import Terms, check
from chaos.host import ComfyUIHost
from chaos.rig import rigged
from chaos.storm import SETTINGS, Storm, run
from chaos.sweep import REFUSED, Leg, plan, run_leg
from chaos.test_storm import PATIENT

KILLS: Final = ("start.send", "start.sent", "waiting.write", "predicted.write")


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[ComfyUIHost]:
    """Yield an emulator for a single test."""
    host = ComfyUIHost(tmp_path, seed=1)
    yield host
    host.close()


def test_a_run_is_started_once_after_any_crash(host: ComfyUIHost, tmp_path: Path) -> None:
    """It is in the queue or the history, or proven to be in neither."""
    plan(host, seed=3)

    with rigged(tmp_path, host) as rig:
        for number, name in enumerate(KILLS):
            if number:
                rig.processes[-1].kill()
            run_leg(rig, Leg.of(name, "kill"))
        rig.quiesce(meanwhile=rig.revive)
        violations = check(rig.evidence(), Terms(codes=REFUSED))

    assert violations == []


def test_a_short_storm_runs_nothing_twice(host: ComfyUIHost, tmp_path: Path) -> None:
    """With kills and lost responses, each attempt has one run."""
    storm = Storm(
        seed=7, jobs=24, kills=3, minutes=0.15, wild=False, split=False, polling=True, repeats=True
    )

    with rigged(tmp_path, host, **{**SETTINGS, **PATIENT}) as rig:
        outcome = run(rig, storm)

    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert (outcome.paid.twice, outcome.paid.lost) == (0, 0)
