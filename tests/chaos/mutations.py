"""Mutation tests: each breaks the code in one way, and shows which test detects it.

A mutation is a change of one place in a copy of the source. The tests named with it must pass on
the unchanged copy, and fail on the changed one: otherwise they would miss that mistake, too.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mistake."""

    name: str
    path: str  # below src/fleek
    before: str
    after: str
    tests: str  # the tests that detect it, as arguments for pytest


MUTATIONS: Final = (
    # The lock and the version guard each other, and the key of the history guards both: without
    # any one or two of the three nothing fails, so the rule itself is broken.
    Mutation(
        "a job held by another worker can be claimed",
        "domain/transitions.py",
        "    if to not in TRANSITIONS[job.state] or (since is not None and job.state not in since):\n",
        "    if to is None:\n",
        "tests/engine/test_start.py",
    ),
    Mutation(
        "the start of a prediction is repeated when its response is lost",
        "engine/start.py",
        "    prediction = await provider.start(job, attempt)\n",
        "    try:\n"
        "        prediction = await provider.start(job, attempt)\n"
        "    except OutcomeUnknown:\n"
        "        prediction = await provider.start(job, attempt)\n",
        "tests/chaos/test_storm.py",
    ),
    Mutation(
        "the prediction of a cancelled job is not cancelled",
        "engine/cancel.py",
        "cancel_owed=job.attempt_id is not None",
        "cancel_owed=False",
        "tests/engine/test_cancel.py",
    ),
    Mutation(
        "a job completes before its files are stored",
        "engine/collect.py",
        "            await rt.storage.save(key, source, content_type=sniffed.content_type)\n",
        "            asyncio.get_running_loop().call_later(0.3, rt.storage._tree.write, key, source)\n",
        "tests/chaos/test_sweep.py",
    ),
    Mutation(
        "a worker whose lease may have expired starts predictions",
        "engine/start.py",
        "        rt.lease.check()  # without a valid lease the worker must not start a prediction\n",
        "",
        "tests/engine/test_start.py",
    ),
    Mutation(
        "an unknown outcome counts as no prediction at once",
        "engine/reconcile.py",
        "empty_looks + 1) and empty_looks + 1 >= LOOKS:\n"
        "            await self._conclude_empty(attempt, crashed=crashed)\n",
        "empty_looks + 1):\n            await self._conclude_empty(attempt, crashed=crashed)\n",
        "tests/engine/test_reconcile.py",
    ),
    Mutation(
        "one empty search of a restored job counts as no prediction",
        "engine/reconcile.py",
        "empty_looks + 1) and empty_looks + 1 >= LOOKS:\n"
        "            await self._conclude_empty(attempt, crashed=crashed, searched=True)\n",
        "empty_looks + 1):\n"
        "            await self._conclude_empty(attempt, crashed=crashed, searched=True)\n",
        "tests/engine/test_history.py",
    ),
    Mutation(
        "the provider is called before the intent is committed",
        "engine/recover.py",
        "change=release(job, now=now, reason=reason, crashed=crashed)",
        "change=fail_permanently(job, OVERDUE, now=now)",
        "tests/engine/test_recover.py",
    ),
    Mutation(
        "a repeated start that crashes its worker is not counted as a crash",
        "engine/reconcile.py",
        '        held = await apply(rt, attempt.job_id, decide, event="repeating", attempt_id=attempt.id)\n'
        "        return held.changed\n",
        "        return True\n",
        "tests/engine/test_recover.py",
    ),
    Mutation(
        "a job with too many crashes fails without reconciliation",
        "engine/reconcile.py",
        "        crashed = job.crashes >= self._rt.settings.max_worker_crashes\n",
        "        crashed = job.crashes >= self._rt.settings.max_worker_crashes\n"
        "        if crashed:\n"
        "            await write_off(self._rt, attempt, CRASHED)\n"
        "            return True\n",
        "tests/engine/test_recover.py",
    ),
    Mutation(
        "the first cancel request waits for the coordinator",
        "engine/cancel.py",
        "        cancel_predictions_soon(rt, job_id)\n",
        "        pass\n",
        "tests/engine/test_cancel.py",
    ),
    Mutation(
        "an update with an unconfirmed commit is decided again",
        "engine/apply.py",
        "            raise _AlreadyStored\n",
        "            pass\n",
        "tests/engine/test_apply.py",
    ),
    Mutation(
        "the time is read from the wall clock",
        "engine/clock.py",
        "        return self._reading.later(self._steady())\n",
        "        return self._wall()\n",
        "tests/engine/test_clock.py",
    ),
    Mutation(
        "every process uses its own wall clock",
        "engine/clock.py",
        "        return self._reading.later(self._steady())\n",
        "        return self._wall()\n",
        "tests/engine/test_clocks_and_money.py",
    ),
    Mutation(
        "the age of a callback is computed with our wall clock",
        "providers/replicate/provider.py",
        "        return self._api.time or self._now()\n",
        "        return self._now()\n",
        "tests/engine/test_clocks_and_money.py",
    ),
    Mutation(
        "an empty search counts although clocks disagree",
        "providers/replicate/search.py",
        "        return self._agree and self._fits\n",
        "        return True\n",
        "tests/providers/replicate/test_search.py",
    ),
    Mutation(
        "an output that is not available yet ends the job",
        "engine/paid.py",
        "        return None if askable else MISSING\n",
        "        return Patience(1)\n",
        "tests/engine/test_paid.py",
    ),
    Mutation(
        "a full or read-only disk ends the job",
        "engine/paid.py",
        "    if isinstance(error, HostError):\n        return False\n",
        "    if isinstance(error, HostError):\n        return True\n",
        "tests/engine/test_paid.py",
    ),
    Mutation(
        "a webhook is not owed by the commit of its event",
        "store/updates.py",
        "        if self._present is not None:\n",
        "        if self._present is not None and not self._media:\n",
        "tests/engine/test_webhooks.py",
    ),
    Mutation(
        "a webhook does not wait for the earlier ones of its job",
        "store/deliveries.py",
        "        if first != delivery.id:  # as late as what it waits for\n",
        "        if first is None:\n",
        "tests/engine/test_deliver.py",
    ),
    Mutation(
        "a webhook is not leased while it is sent",
        "store/deliveries.py",
        '        await tx.execute(MOVE, {"_id": delivery.id, "next_at": wish.until})\n',
        "",
        "tests/engine/test_deliver.py",
    ),
    Mutation(
        "two outages of a receiver of webhooks count as one",
        "store/deliveries.py",
        "    since = outcome.at if since is None or quiet else since\n",
        "    since = since or outcome.at\n",
        "tests/store/test_deliveries.py",
    ),
    Mutation(
        "receivers of webhooks that hang may use all attempts",
        "engine/deliver.py",
        "            works = lane.id in self._working\n",
        "            works = True\n",
        "tests/engine/test_deliver.py",
    ),
    Mutation(
        "a repeated idempotency key makes another job",
        "store/idempotency.py",
        "        is_first = isinstance(earlier, Earlier) and earlier.job_id == each.job_id\n",
        "        is_first = isinstance(earlier, Earlier)\n",
        "tests/store/test_idempotency.py",
    ),
    Mutation(
        "a job of another tenant is found by its id",
        "store/jobs.py",
        "    if found is None or found.job.tenant_id != tenant_id:\n",
        "    if found is None:\n",
        "tests/api/test_tenants.py",
    ),
    Mutation(
        "a stream of events does not wait for transactions that began earlier",
        "store/event_stream.py",
        '    function = "pg_snapshot_xmin(pg_current_snapshot())"\n',
        '    function = "pg_snapshot_xmax(pg_current_snapshot())"\n',
        "tests/store/test_event_stream.py",
    ),
    Mutation(
        "the jobs of a tenant are counted without its lock",
        "store/limits.py",
        '    if tx.dialect.name == "postgresql":  # SQLite has one writer anyway\n',
        '    if tx.dialect.name == "none":\n',
        "tests/store/test_limits.py",
    ),
)


def run(say: Callable[..., None], *, only: str = "") -> bool:
    """Try each mutation with this text in its name; return whether passing tests detect all."""
    good = True
    for mutation in (one for one in MUTATIONS if only in one.name):
        with _copy() as copy:
            before = failures(copy, mutation.tests)
            path = copy / "src/fleek" / mutation.path
            code = path.read_text()
            assert code.count(mutation.before) == 1, (
                f"{mutation.name}: {mutation.path} is different"
            )
            path.write_text(code.replace(mutation.before, mutation.after))
            found = [] if before else failures(copy, mutation.tests)
        if before:
            say(f"{mutation.name}: NOT TRIED, fails without it: {before[0]}")
        else:
            say(f"{mutation.name}: {'found by ' + found[0] if found else 'NOT FOUND'}")
        good &= bool(found)
    return good


@contextmanager
def _copy() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="fleek-mutation-") as name:
        copy = Path(name)
        for part in ("src", "tests", "pyproject.toml"):
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / part)
        yield copy


def failures(copy: Path, tests: str) -> list[str]:
    """Run tests of a copy on its own source, and return the failed ones."""
    done = subprocess.run(  # noqa: S603 - this project's program
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy / 'tests'}"},  # noqa: TID251 - a child's environment
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    lines = done.stdout.splitlines()
    return [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))]
