"""Crash points with fal's queue: no list, and a callback for each request; storms: test_accounts.py."""

from collections.abc import Generator
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from chaos.checker import Terms, check
from chaos.faults import UNKNOWN
from chaos.host import FalHost
from chaos.rig import LOOK_SECONDS, Rig, rigged
from chaos.sweep import REFUSED, STRUCK, Leg, plan, run_leg
from service_process import until

OPEN: Final = "SELECT id FROM attempts WHERE verdict IS NULL"
LONG: Final = {"ATTEMPT_TIMEOUT": "15", "FAL_CALLBACK_WAIT": "3600"}  # seconds
SHORT: Final = {"FAL_CALLBACK_WAIT": "1"}
KILLS: Final = ("start.send", "start.sent", "waiting.write", "predicted.write", "callback.adopt")


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[FalHost]:
    """Yield an emulator for a single test."""
    host = FalHost(tmp_path, seed=1)
    yield host
    host.close()


def has_callbacks_to_come(rig: Rig) -> bool:
    """Whether fal knows an attempt without a verdict, and does not keep its callback to itself."""
    known = {
        UUID(row["webhook_url"].rpartition("/")[2].partition(".")[0])
        for row in rig.host.ledger()["predictions"]
        if "hook_drop" not in row["prompt"]
    }
    return any(UUID(str(attempt_id)) in known for (attempt_id,) in rig.rows(OPEN))


def test_a_request_is_paid_for_once_after_any_crash(host: FalHost, tmp_path: Path) -> None:
    """Its callback finds it; without one the job fails, and nothing is sent again.

    The callbacks that come are waited for as long as they take, the others hardly at all.
    """
    plan(host, seed=3)

    with rigged(tmp_path, host, **LONG) as rig:
        for number, name in enumerate(KILLS):
            if number:
                rig.processes[-1].kill()
            run_leg(rig, Leg.of(name, "kill"))
        until(
            lambda: rig.revive() and not has_callbacks_to_come(rig),
            seconds=STRUCK,
            look_seconds=LOOK_SECONDS,
            why=rig.tails,
        )
        rig.processes[-1].kill()
        rig.env |= SHORT
        rig.quiesce(meanwhile=rig.revive)
        violations = check(rig.evidence(), Terms(codes=REFUSED | UNKNOWN, unknown=True))

    assert violations == []
