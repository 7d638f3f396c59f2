"""A model for tests that draws small pictures with Pillow and keeps a ledger of its runs.

It runs inside the Cog server, which has this folder and nothing else.
"""

import asyncio
import hashlib
import json
import time
from pathlib import Path as File
from typing import Any
from uuid import uuid4

from cog import BaseRunner, Input, Path  # type: ignore[import-untyped]  # it ships no types
from PIL import Image


class Runner(BaseRunner):  # type: ignore[misc]  # for the same reason
    """A model whose behaviour depends on its inputs."""

    async def run(
        self,
        prompt: str = Input(description='Its colour; "fail" fails.'),
        seconds: float = Input(default=0.0, description="How long it takes."),
        shape: str = Input(default="one", description="The shape of the output."),
        image: Path | None = Input(default=None, description="A picture to start from."),  # noqa: B008 - this is how Cog declares inputs
        audio: Path | None = Input(default=None, description="A sound to listen to."),  # noqa: B008 - likewise
    ) -> Any:
        """Wait, then draw."""
        run = uuid4().hex
        _note(run, "begin", prompt)
        try:
            await _work(seconds, File(f"{prompt}.enough"))
            if audio is not None:
                return hashlib.sha256(audio.read_bytes()).hexdigest()
            return _made(run, prompt, shape, image)
        finally:
            _note(run, "end", prompt)


async def _work(seconds: float, enough: File) -> None:
    """Work for this many seconds, or until the file exists."""
    until = time.monotonic() + seconds
    print("25% done", flush=True)  # noqa: T201 - the prediction's log
    while time.monotonic() < until and not enough.exists():  # noqa: ASYNC240 - a quick look
        await asyncio.sleep(0.02)


def _made(run: str, prompt: str, shape: str, image: Path | None) -> Any:
    if prompt == "fail":
        raise ValueError("the model does not like this")
    if shape == "text":
        return ["A ", "cat."]
    if shape == "nothing":
        return None
    sizes = {"many": [(8, 8), (16, 8)], "large": [(512, 512)]}.get(shape, [(16, 16)])
    files = [_draw(run, size, image) for size in sizes]
    return {"seed": 7, "files": {"all": files}} if shape == "nested" else files


def _draw(run: str, size: tuple[int, int], image: Path | None) -> Path:
    """Draw noise, which cannot be compressed much."""
    picture = Image.effect_noise(size, 80) if image is None else Image.open(image)
    path = File(f"{run}-{size[0]}x{size[1]}.png").absolute()
    picture.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with File("digests.txt").open("a") as digests:
        digests.write(f"{digest}\n")
    return Path(path)


def _note(run: str, event: str, prompt: str) -> None:
    with File("ledger.jsonl").open("a") as ledger:
        ledger.write(json.dumps({"run": run, "event": event, "prompt": prompt}) + "\n")
