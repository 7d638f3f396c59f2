"""The log of jobs: a line per change, without prompts."""

from dataclasses import replace

from structlog.testing import capture_logs

from fakes import Clock, FakeProvider, a_request
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit


async def test_each_change_of_a_job_is_one_line(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A job can be followed through the log alone."""
    provider.at_once = True
    with capture_logs() as lines:
        job = await submit(rt, a_request(prompt="a private prompt"))
        await start(rt, job.id)
        clock.tick(seconds=2)
        await collect(rt, job.id)

    changes = [line for line in lines if line["event"] == "job_changed"]
    assert [line["change"] for line in changes] == [
        *("submitted", "starting", "waiting", "predicted", "collecting", "completed")
    ]
    assert {line["job_id"] for line in changes} == {str(job.id)}
    assert (changes[-1]["status"], changes[-1]["seconds"]) == ("completed", 2.0)
    assert changes[-1]["model"] == job.model
    assert "private" not in str(lines)


async def test_prompts_are_logged_on_request(rt: Runtime) -> None:
    """They are logged once, when the job is submitted."""
    rt = replace(rt, settings=rt.settings.model_copy(update={"log_prompts": True}))
    with capture_logs() as lines:
        job = await submit(rt, a_request(prompt="a cat"))
        await cancel(rt, job.id, tenant_id=job.tenant_id)

    assert [line.get("prompt") for line in lines if line["event"] == "job_changed"] == [
        *("a cat", None)
    ]
