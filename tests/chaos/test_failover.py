"""Storms over two providers: jobs go on elsewhere, and each is paid for once."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from chaos.checker import Terms, check
from chaos.host import SeveralHost
from chaos.rig import rigged
from chaos.storm import SETTINGS, Storm, run
from chaos.sweep import plan
from chaos.test_storm import PATIENT

MODELS: Final = ("replicate:a/b", "openai:sora-2")


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[SeveralHost]:
    """Yield an emulator of two providers for a single test."""
    host = SeveralHost(tmp_path, seed=1)
    yield host
    host.close()


def test_a_storm_over_two_providers_costs_nothing(host: SeveralHost, tmp_path: Path) -> None:
    """Lost answers, lost callbacks, late predictions, limits and kills."""
    storm = Storm(seed=7, jobs=24, kills=3, minutes=0.15, wild=False, split=False, several=True)

    with rigged(tmp_path, host, **{**SETTINGS, **PATIENT}) as rig:
        outcome = run(rig, storm)

    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert (outcome.paid.twice, outcome.paid.lost) == (0, 0)


@pytest.mark.parametrize("point", ["rerouted.write", "rerouted.written"])
def test_a_waiting_job_is_rerouted_after_a_crash(
    host: SeveralHost, tmp_path: Path, point: str
) -> None:
    """Its provider is at its limit; the next process goes on with it, and it is paid for once."""
    plan(host, seed=1)

    with rigged(tmp_path, host, REPLICATE_CREATES_PER_MINUTE="1") as rig:
        process = rig.launch(FLEEK_FAILPOINTS=f"{point}=kill@1")
        client = rig.client(0)
        job_id = client.submit("a cat", models=MODELS)
        process.wait()
        rig.launch()
        rig.quiesce()
        providers = rig.rows("SELECT provider, status FROM jobs")
        violations = check(rig.evidence(), Terms(exact=True))
        client.close()

    assert violations == []
    assert job_id is not None
    assert [tuple(row) for row in providers] == [("openai", "completed")]
