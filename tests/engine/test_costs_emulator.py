"""Costs with emulated providers that keep a ledger: equal to the last micro."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import pytest

from fakes import a_request
from fleek.bootstrap import open_runtime
from fleek.domain.budgets import Period
from fleek.domain.job import ModelName
from fleek.domain.money import Micros
from fleek.domain.prices import Listed, Price, PriceList, Unit
from fleek.emulator.plan import Plan
from fleek.emulator.predictions import ledger_row
from fleek.emulator.server import Emulator, serve
from fleek.engine.budgets import change_budget
from fleek.engine.cancel import cancel
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.settings import Settings
from fleek.store import attempts, jobs
from fleek.worker import work
from ledgers import spend_of

SECONDS: Final = 120  # the longest that anything here may take
PLAN: Final = Plan(
    queue_seconds=0, predict_seconds=(0.01, 0.2), price_usd=0.003, price_per_second_usd=0.0123
)
PRICE: Final = Price(
    units={Unit.PREDICTION: Decimal("0.003"), Unit.RUN_SECOND: Decimal("0.0123")},
    assumed={Unit.RUN_SECOND: Decimal("0.1")},
)
MARKERS: Final = (
    *(
        "one",
        "two",
        "three",
        "[[emu:fail_mid]]",
        "[[emu:fail_start]]",
        "[[emu:nsfw]]",
        "[[emu:aborted]]",
    ),
    *("[[emu:transient_failure*1]]", "[[emu:create_429=1*1]]", "[[emu:create_then_drop*1]]"),
)
STOPPED: Final = "[[emu:predict=30]]"


def prices(provider: str) -> PriceList:
    """Return the price list of an emulated provider."""
    return PriceList([Listed(provider, "*", PRICE)])


def ledger(emulator: Emulator) -> Iterator[dict[str, Any]]:
    """Yield the predictions that the provider has charged for."""
    account = emulator.account
    for prediction in account.predictions:
        yield ledger_row(prediction, account.plan, account.now())


async def all_ended(rt: Runtime) -> None:
    """Wait until no job and no attempt is open."""
    async with asyncio.timeout(SECONDS):
        while await attempts.count_without_verdict(rt.db) or await _open(rt):
            await asyncio.sleep(0.05)


async def _open(rt: Runtime) -> int:
    async with rt.db.read() as tx:
        found = await tx.exec_driver_sql("SELECT count(*) FROM jobs WHERE completed_at IS NULL")
        return int(found.scalar_one())


async def limit(rt: Runtime) -> None:
    """Set a budget that is never exhausted."""
    most = Micros(10**9)
    await change_budget(rt, tenant_id=None, key_id=None, period=Period.TOTAL, limit=most)


@pytest.mark.usefixtures("_full_suite")  # takes seconds
async def test_spent_equals_the_ledger_of_replicate(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the price list: with failures, lost responses and cancels, nothing stays reserved."""
    changed = settings.model_copy(update={"providers": ("replicate",)})
    async with serve(PLAN) as emulator:
        monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_paid")
        monkeypatch.setenv("REPLICATE_BASE_URL", emulator.api_url)
        async with open_runtime(changed) as opened:
            rt = replace(opened, prices=prices("replicate"))
            await limit(rt)
            stop = asyncio.Event()
            working = asyncio.create_task(work(rt, stop))
            made = [await submit(rt, a_request(marker)) for marker in MARKERS]
            stopped = await submit(rt, a_request(STOPPED))
            async with asyncio.timeout(SECONDS):
                while (await jobs.get_any_tenant(rt.db, stopped.id)).prediction_id is None:
                    await asyncio.sleep(0.02)
            await cancel(rt, stopped.id, tenant_id="default")
            await all_ended(rt)
            spent = await spend_of(rt.db)
            costs = [(await jobs.get_any_tenant(rt.db, job.id)).cost for job in (*made, stopped)]
            stop.set()
            await working
        billed = [row["billed_micros"] for row in ledger(emulator)]

    assert len(billed) > len(MARKERS)
    assert spent["", "", "total", ""] == (0, sum(billed))
    assert sum(cost or 0 for cost in costs) == sum(billed)


@pytest.mark.usefixtures("_full_suite")  # takes seconds
@pytest.mark.parametrize("kind", ["image", "speech", "video"])
async def test_spent_equals_what_the_answers_of_openai_name(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """In the body, or in a header; the price list says something else."""
    changed = settings.model_copy(update={"providers": ("openai",)})
    async with serve(PLAN) as emulator:
        base = emulator.api_url.removesuffix("/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-paid")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{base}/openai/v1")
        monkeypatch.setenv("OPENAI_MODELS", f"{kind}:gpt-image-9")
        async with open_runtime(changed) as opened:
            dear = PriceList([Listed("openai", "*", Price(units={Unit.PREDICTION: Decimal(1)}))])
            rt = replace(opened, prices=dear)
            await limit(rt)
            stop = asyncio.Event()
            working = asyncio.create_task(work(rt, stop))
            voice = {"voice": "alloy"} if kind == "speech" else {}
            request = replace(a_request(), model=ModelName("gpt-image-9"), parameters=voice)
            for _ in range(3):
                await submit(rt, request)
            await all_ended(rt)
            spent = await spend_of(rt.db)
            stop.set()
            await working
        billed = [row["billed_micros"] for row in ledger(emulator)]

    assert len(billed) == 3
    assert len(set(billed)) == 3
    assert spent["", "", "total", ""] == (0, sum(billed))
