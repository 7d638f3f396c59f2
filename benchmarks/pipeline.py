"""The least that a job needs, without any promise: `python -m benchmarks.pipeline API AT_ONCE`.

It creates predictions, polls them, downloads their files and stores them durably, with the fastest
client. For each line of its input, a number of jobs, it does so many and prints one line of JSON:
the processor time and the wall time in seconds.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import aiohttp
import uvloop

CREATE: Final = "/v1/models/black-forest-labs/flux-schnell/predictions"
POLL_SECONDS: Final = 0.5
HEADERS: Final = {"Authorization": "Bearer r8_benchmark_0123456789abcdefghijkl"}


class Pipeline:
    """Jobs from the prediction to the stored file."""

    def __init__(self, session: aiohttp.ClientSession, api: str, folder: Path) -> None:
        self._session = session
        self._api = api
        self._folder = folder

    async def job(self) -> None:
        """Do one job."""
        body = {"input": {"prompt": "A cat riding a bicycle"}}
        prediction = await self._json("POST", f"{self._api}{CREATE}", json=body)
        while prediction["status"] not in {"succeeded", "failed", "canceled"}:
            await asyncio.sleep(POLL_SECONDS)
            prediction = await self._json("GET", f"{self._api}/v1/predictions/{prediction['id']}")
        output = prediction["output"]
        async with self._session.get(output if isinstance(output, str) else output[0]) as response:
            content = await response.read()
        await asyncio.to_thread(self._store, content)

    async def _json(self, method: str, url: str, **options: Any) -> Any:
        async with self._session.request(method, url, headers=HEADERS, **options) as response:
            response.raise_for_status()
            return await response.json()

    def _store(self, content: bytes) -> None:
        path = self._folder / f"{uuid4()}"
        with path.with_suffix(".part").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".part").rename(path.with_suffix(".png"))


async def run(api: str, at_once: int) -> None:
    """Do jobs as often as a line asks for some."""
    with TemporaryDirectory(prefix="fleek-bench-") as folder:
        async with aiohttp.ClientSession() as session:
            pipeline = Pipeline(session, api, Path(folder))
            while line := await asyncio.to_thread(sys.stdin.readline):
                began, cpu = time.perf_counter(), time.process_time()
                await _do(pipeline, int(line), at_once)
                used = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - began}
                print(json.dumps(used), flush=True)


async def _do(pipeline: Pipeline, number: int, at_once: int) -> None:
    limit = asyncio.Semaphore(at_once)

    async def limited() -> None:
        async with limit:
            await pipeline.job()

    await asyncio.gather(*(limited() for _ in range(number)))


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2])))
