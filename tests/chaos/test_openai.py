"""Crash points with the API of OpenAI: no callbacks, no own ids, no safe repeats.

Storms are in test_accounts.py.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from chaos.checker import Terms, check
from chaos.host import OpenAIHost
from chaos.rig import Rig, rigged
from chaos.sweep import REFUSED, Leg, plan, run_leg
from service_process import until

KILLS: Final = ("start.send", "start.sent", "waiting.write", "predicted.write", "reconcile.adopt")
CODES: Final = REFUSED | {"provider_bad_request"}  # a refusal has another status here
OUTCOMES: Final = "SELECT status, error_code FROM jobs"


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[OpenAIHost]:
    """Yield an emulator for a single test."""
    host = OpenAIHost(tmp_path, seed=1)
    yield host
    host.close()


def test_a_video_is_paid_for_once_after_any_crash(host: OpenAIHost, tmp_path: Path) -> None:
    """It is found by its request in the list, or proven to be missing."""
    plan(host, seed=3)

    with rigged(tmp_path, host) as rig:
        for number, name in enumerate(KILLS):
            if number:
                rig.processes[-1].kill()
            run_leg(rig, Leg.of(name, "kill"))
        rig.quiesce(meanwhile=rig.revive)
        violations = check(rig.evidence(), Terms(codes=CODES))

    assert violations == []


def crash_after_response(rig: Rig) -> None:
    """Kill a process between the response to an image and its record, and start the next one."""
    process = rig.launch(FLEEK_FAILPOINTS="start.sent=kill@1")
    job = {"prompt": "a cat"}
    until(  # a busy machine refuses it for a while
        lambda: rig.http.post("/api/v1/generate", json=job).status_code == 201, why=process.tail
    )
    process.wait()
    rig.launch()
    rig.quiesce()


@pytest.mark.parametrize(
    ("repeats", "outcome", "created"),
    [("false", ("failed", "provider_outcome_unknown"), 1), ("true", ("completed", None), 2)],
)
def test_a_lost_image_is_repeated_only_if_the_operator_allows_it(
    host: OpenAIHost, tmp_path: Path, repeats: str, outcome: tuple[str, str | None], created: int
) -> None:
    """It cannot be found, so the setting decides."""
    plan(host, seed=1)
    models = {"OPENAI_MODELS": "image:gpt-image-2.5-flare", "OPENAI_REPEATS": repeats}

    with rigged(tmp_path, host, **models) as rig:
        crash_after_response(rig)
        outcomes = [tuple(row) for row in rig.rows(OUTCOMES)]

    assert outcomes == [outcome]
    assert host.ledger()["totals"]["predictions"] == created
