"""The API of OpenAI and of the servers that are compatible with it: images, speech and videos.

``Plan.openai_server`` chooses whose behaviour it has: that of OpenAI, of vLLM-Omni, of
SGLang-Diffusion, or of LiteLLM's proxy in front of OpenAI.
"""

from typing import Final

from starlette.routing import Route

from fleek.emulator.dialect import Dialect
from fleek.emulator.openai import synchronous, videos
from fleek.emulator.openai.representation import NAME, PREFIX, error, present

CREATE: Final = ("/images/generations", "/images/edits", "/audio/speech", "/videos")


def _routes() -> list[Route]:
    return [*synchronous.routes(), *videos.routes()]


DIALECT: Final = Dialect(
    name=NAME,
    prefix=PREFIX,
    routes=_routes,
    creates=lambda path: path.endswith(CREATE),
    error=error,
    present=present,
)
