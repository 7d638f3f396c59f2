"""A media service on Celery as one writes it in an afternoon: it loses jobs, and pays twice.

`uvicorn benchmarks.celery_service:api` and `celery -A benchmarks.celery_service worker`, both in
one folder, with `BENCH_API` (the provider) and `BENCH_REDIS`.
"""

import os
import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
from celery import Celery
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

API: Final = os.environ["BENCH_API"]  # noqa: TID251 - it has no settings
CREATE: Final = "/v1/models/black-forest-labs/flux-schnell/predictions"
HEADERS: Final = {"Authorization": "Bearer r8_benchmark_0123456789abcdefghijkl"}
POLL_SECONDS: Final = 0.5

api = FastAPI()
app = Celery("bench", broker=os.environ["BENCH_REDIS"])  # noqa: TID251 - likewise
engine = create_engine("sqlite:///service.db", connect_args={"timeout": 30})
provider = httpx2.Client(base_url=API, headers=HEADERS, timeout=30)


class Base(DeclarativeBase):
    """The tables."""


class Job(Base):
    """One job."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    prompt: Mapped[str]
    status: Mapped[str]
    path: Mapped[str | None]


@event.listens_for(engine, "connect")
def _wal(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


class Wish(BaseModel):
    """What a caller sends."""

    prompt: str


@app.task
def generate(job_id: str) -> None:
    """Do a job."""
    with Session(engine) as session:
        prompt = session.get_one(Job, job_id).prompt
    prediction = provider.post(CREATE, json={"input": {"prompt": prompt}}).json()
    while prediction["status"] not in {"succeeded", "failed", "canceled"}:
        time.sleep(POLL_SECONDS)
        prediction = provider.get(f"/v1/predictions/{prediction['id']}").json()
    output = prediction["output"]
    content = httpx2.get(output if isinstance(output, str) else output[0]).content
    path = Path(f"{job_id}.png")
    path.write_bytes(content)
    with Session(engine) as session, session.begin():
        job = session.get_one(Job, job_id)
        job.status, job.path = "completed", str(path)


@api.post("/api/v1/generate", status_code=201)
def create(wish: Wish) -> dict[str, str]:
    """Accept a job."""
    with Session(engine) as session, session.begin():
        session.add(job := Job(id=str(uuid4()), prompt=wish.prompt, status="pending", path=None))
        job_id = job.id
    generate.delay(job_id)
    return {"id": job_id, "status": "pending"}


@api.get("/done")
def done() -> int:
    """Return how many jobs have completed."""
    with Session(engine) as session:
        return session.query(Job).filter_by(status="completed").count()


@api.get("/api/v1/status/{job_id}")
def status(job_id: str) -> dict[str, str]:
    """Return a job."""
    with Session(engine) as session:
        job = session.get(Job, job_id)
        if job is None:
            raise HTTPException(404)
        return {"id": job.id, "status": job.status}


Base.metadata.create_all(engine)
