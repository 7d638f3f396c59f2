"""The host of the provider `lamp` in the guide: tasks under ids that callers choose."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from fleek.emulator.media import render

KEY: Final = "secret"
Tasks = dict[str, dict[str, Any]]
"""By their ids; each is what reads of it return."""


@asynccontextmanager
async def lamp_host() -> AsyncGenerator[tuple[str, Tasks]]:
    """Yield the address of a host, and its tasks; each ends when it is created."""
    tasks: Tasks = {}

    async def create(request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "unknown key"}, status=401)
        task = await request.json()
        if "refuse" in task["prompt"]:
            return web.json_response({"error": "no such size"}, status=422)
        ended: dict[str, Any] = {"state": "done", "file": f"/files/{task['id']}"}
        if "fail" in task["prompt"]:
            ended = {"state": "failed", "error": "the lamp broke"}
        if "callback" in task:
            ended["callback"] = task["callback"]
        tasks.setdefault(task["id"], ended)
        return web.json_response({"id": task["id"]}, status=202)

    async def show(request: web.Request) -> web.Response:
        task = tasks.get(request.match_info["id"])
        return web.json_response(task or {}, status=404 if task is None else 200)

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=render(request.match_info["id"], "png"), content_type="image/png")

    app = web.Application()
    app.router.add_post("/tasks", create)
    app.router.add_get("/tasks/{id}", show)
    app.router.add_delete("/tasks/{id}", show)
    app.router.add_get("/files/{id}", file)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}", tasks
    finally:
        await runner.cleanup()
