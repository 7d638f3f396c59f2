"""The short cache: frequent requests are cheap, and responses are at most a second old."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2

from fakes import FakeProvider
from fleek.api.short_cache import NegativeCache, ShortCache
from fleek.engine.runtime import Runtime

ClientOf = Callable[[Runtime], httpx2.AsyncClient]


async def test_concurrent_requests_share_a_response() -> None:
    """Later requests get a new one."""
    made: list[int] = []

    async def make() -> int:
        await asyncio.sleep(0)
        made.append(len(made))
        return made[-1]

    shared: ShortCache[int] = ShortCache(seconds=3600)
    together = await asyncio.gather(*(shared.get(make) for _ in range(5)))
    later = await ShortCache[int](seconds=0).get(make)

    assert together == [0] * 5
    assert later == 1


async def test_an_error_is_not_cached() -> None:
    """The next request may succeed."""

    async def fail() -> int:
        raise ValueError

    async def make() -> int:
        return 7

    shared: ShortCache[int] = ShortCache(seconds=3600)
    (failed,) = await asyncio.gather(shared.get(fail), return_exceptions=True)

    assert isinstance(failed, ValueError)
    assert await shared.get(make) == 7


async def test_an_unknown_callback_is_looked_up_once(rt: Runtime, client_of: ClientOf) -> None:
    """Any caller may send it."""
    asked: list[Any] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(rt.db, name)

    counted: Any = Counting()
    providers: Any = {"fake": FakeProvider()}
    path = "/webhooks/fake/0198f000-0000-7000-8000-000000000001.x"
    async with client_of(replace(rt, db=counted, providers=providers)) as client:
        first = await client.post(path)
        once = len(asked)
        others = [await client.post(path) for _ in range(5)]

    assert once
    assert len(asked) == once
    assert {answer.status_code for answer in [first, *others]} == {404}


async def test_unknown_tokens_expire() -> None:
    """A token may become valid a moment later."""
    kept, lost = NegativeCache(seconds=3600), NegativeCache(seconds=0)
    for words in (kept, lost):
        words.add("x")

    assert "x" in kept
    assert "x" not in lost
    assert "y" not in kept
