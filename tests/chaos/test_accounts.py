"""Storms over two accounts at one provider: each is asked only about what it has started."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from chaos.host import AccountsHost
from chaos.rig import rigged
from chaos.storm import SETTINGS, Storm, run
from chaos.test_storm import PATIENT


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[AccountsHost]:
    """Yield an emulator of two accounts for a single test."""
    host = AccountsHost(tmp_path, seed=1)
    yield host
    host.close()


def test_a_storm_over_two_accounts_costs_nothing(host: AccountsHost, tmp_path: Path) -> None:
    """Kills, lost answers and callbacks, limits: what one account has started, the other never sees."""
    storm = Storm(seed=7, jobs=40, kills=4, minutes=0.25, wild=False, split=True)

    with rigged(tmp_path, host, **{**SETTINGS, **PATIENT}) as rig:
        outcome = run(rig, storm)
        used = Counter(row["token"] for row in host.ledger()["predictions"])

    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert (outcome.paid.twice, outcome.paid.lost) == (0, 0)
    assert len(used) == 2
    assert min(used.values()) * 4 > max(used.values())
