"""The provider that the guide builds is a provider."""

from dataclasses import replace
from types import ModuleType

from examples import ROOT, examples
from fakes import a_request
from fleek.domain.job import Status
from fleek.engine.collect import collect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.store import jobs


async def test_the_provider_of_the_guide_makes_media(rt: Runtime) -> None:
    """Whoever copies it has something that works before they change it."""
    (example,) = examples(ROOT / "docs/how-to/add-a-provider.md")
    echo = ModuleType("echo")
    exec(compile(example.text, "add-a-provider.md", "exec"), echo.__dict__)  # noqa: S102 - our own page

    async with echo.connect() as provider:
        rt = replace(rt, providers={"echo": provider})
        job = await submit(rt, a_request("Hello", provider="echo", parameters={"shout": True}))
        await start(rt, job.id)
        await collect(rt, job.id)

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    stored = [chunk async for chunk in rt.storage.read(view.media[0].key)]
    assert view.job.status is Status.COMPLETED
    assert b"".join(stored) == b"HELLO"
