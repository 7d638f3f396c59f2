"""Storms over two accounts at one provider: each is asked only about what it has started."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from chaos.checker import Terms, check
from chaos.host import TOKEN, AccountsHost, FalAccountsHost, Host, OpenAIAccountsHost
from chaos.rig import rigged
from chaos.storm import SETTINGS, Storm, run
from chaos.test_storm import PATIENT

HOSTS: Final = {
    "replicate": AccountsHost,
    "fal": FalAccountsHost,
    "openai": OpenAIAccountsHost,
}
JOBS: Final = 12
PARKED: Final = "SELECT reason FROM accounts WHERE paused_until IS NOT NULL"


@pytest.fixture(params=HOSTS)
def host(_full_suite: None, tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Host]:
    """Yield an emulator of two accounts for a single test."""
    host = HOSTS[request.param](tmp_path, seed=1)
    yield host
    host.close()


def test_a_storm_over_two_accounts_costs_nothing(host: Host, tmp_path: Path) -> None:
    """Kills, lost answers and callbacks, limits: what one account has started, the other never sees.

    It is long enough to reach every state that a short storm has to; `make chaos` runs longer ones.
    """
    storm = Storm(
        seed=7,
        jobs=24,
        kills=3,
        minutes=0.15,
        wild=False,
        split=True,
        polling=isinstance(host, OpenAIAccountsHost),
        by_callback=isinstance(host, FalAccountsHost),
    )

    with rigged(tmp_path, host, **{**SETTINGS, **PATIENT}) as rig:
        outcome = run(rig, storm)
        used = Counter(row["token"] for row in host.ledger()["predictions"])

    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert (outcome.paid.twice, outcome.paid.lost) == (0, 0)
    assert len(used) == 2
    assert min(used.values()) * 4 > max(used.values())


def test_a_refused_key_parks_its_account_alone(host: Host, tmp_path: Path) -> None:
    """The other one does the work of both, and each job is paid for once."""
    host.plan(tokens=[TOKEN])

    with rigged(tmp_path, host) as rig:
        rig.launch()
        client = rig.client(0)
        accepted = [client.submit(f"a cat {number}") for number in range(JOBS)]
        rig.quiesce()
        statuses = Counter(status for (status,) in rig.rows("SELECT status FROM jobs"))
        parked = rig.rows(PARKED)
        violations = check(rig.evidence(), Terms(exact=True))
        ledger = host.ledger()
        client.close()

    assert violations == []
    assert None not in accepted
    assert statuses == {"completed": JOBS}
    assert len({row["token"] for row in ledger["predictions"]}) == 1
    assert len(ledger["predictions"]) == JOBS
    assert [reason for (reason,) in parked] == ["provider_unauthorized"]
