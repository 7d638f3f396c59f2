"""What the framework can do without us: ``uvicorn benchmarks.yardstick:app``.

It takes the same request and answers with as many bytes, and keeps nothing.
"""

import json
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel

app = FastAPI()


class Wish(BaseModel):
    """The fields of a request that the benchmark sends."""

    prompt: str
    parameters: dict[str, Any]


@app.post("/api/v1/generate", status_code=201)
async def echo(body: Wish) -> Wish:
    """Return what was sent."""
    return body


@app.put("/status")
async def keep(body: dict[str, Any]) -> dict[str, Any]:
    """Take the document that `status` serves."""
    app.state.document = Response(json.dumps(body), media_type="application/json")
    return {}


@app.get("/api/v1/status/{job_id}")
async def status(job_id: str) -> Response:  # noqa: ARG001 - as the service has it
    """Serve the document."""
    document: Response = app.state.document
    return document
