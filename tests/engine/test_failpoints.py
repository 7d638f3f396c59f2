"""An error at any step of a start: no live worker keeps holding the job."""

from collections.abc import Generator

import pytest

from fakes import FakeProvider, a_request
from fleek import failpoints
from fleek.domain.job import Stage
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.store import jobs


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed for the next test."""
    yield
    failpoints.arm("")


@pytest.mark.parametrize("name", ["start.send", "start.sent", "waiting.write"])
async def test_an_error_during_a_start_leaves_an_unknown_outcome(
    rt: Runtime, provider: FakeProvider, name: str
) -> None:
    """The prediction may exist, so `recover` has to find out, and the job must be released."""
    job = await submit(rt, a_request())
    failpoints.arm(f"{name}=oserror")

    with pytest.raises(OSError, match=name):
        await start(rt, job.id)

    left = await jobs.get_any_tenant(rt.db, job.id)
    assert (left.stage, left.worker_id) == (Stage.UNKNOWN, None)
    assert len(provider.started) == (name in {"start.sent", "waiting.write"})
