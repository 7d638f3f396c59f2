"""The API of a ComfyUI server: runs of workflows in a queue, without tokens."""

from typing import Final

from fleek.emulator.comfyui.representation import NAME, PREFIX, error, present
from fleek.emulator.comfyui.routes import routes
from fleek.emulator.dialect import Dialect

DIALECT: Final = Dialect(
    name=NAME,
    prefix=PREFIX,
    routes=routes,
    creates=lambda path: path.endswith("/prompt"),
    error=error,
    present=present,
    is_open=lambda _: True,
)
