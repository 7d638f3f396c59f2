"""What the result of a job depends on, so that an equal job need not be paid for again.

That is its model, its prompt and its parameters, in which each media input stands for its bytes.
"""

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from fleek import strict
from fleek.domain.data_uri import DataUriUnreadable, decode
from fleek.domain.errors import NotFound
from fleek.domain.inputs import InputKind, MediaInput, texts_of, with_values
from fleek.domain.job import Job, JobId, JobRequest
from fleek.domain.routing import Route
from fleek.domain.uploads import UploadId
from fleek.engine.runtime import Runtime
from fleek.store import inputs, uploads


def reuse_since(job: Job, request: JobRequest) -> datetime | None:
    """Return the time since when an equal job may have completed; None: none may be reused.

    A job that is to start later does not complete now.
    """
    if request.reuse is None or job.run_at > job.created_at:
        return None
    return job.created_at - request.reuse


async def content_of(rt: Runtime, request: JobRequest, route: Route) -> bytes | None:
    """Return the digest of what the result of a new job depends on; None: it cannot be known yet.

    So it is with an address: what it holds is known when it is fetched. So it is with the output of a
    job that has not completed.
    """
    values: dict[str, Any] = {}
    texts = texts_of(route.input) if route.inputs else {}
    for wanted in route.inputs:
        digest = await _digest(rt, request.tenant_id, wanted, texts[wanted.pointer])
        if digest is None:
            return None
        values[wanted.pointer] = {"sha256": digest}
    parameters = with_values(route.input, values) if values else route.input
    content = [route.provider, route.model, request.prompt, parameters]
    return hashlib.sha256(strict.canonical(content)).digest()


async def _digest(rt: Runtime, tenant_id: str, wanted: MediaInput, value: str) -> str | None:
    """Return the SHA-256 of a media input; None: it is not known, or not there."""
    if wanted.kind is InputKind.DATA:
        return _digest_of_uri(value)
    if wanted.id is None:
        return None
    named = UUID(wanted.id)
    if wanted.kind is InputKind.JOB:
        media = await inputs.output(rt.db, JobId(named), index=wanted.index, tenant_id=tenant_id)
        return None if media is None else media.sha256
    try:
        return (await uploads.get(rt.db, UploadId(named), tenant_id=tenant_id)).sha256
    except NotFound:  # the commit refuses it
        return None


def _digest_of_uri(uri: str) -> str | None:
    digest = hashlib.sha256()
    try:
        for piece in decode(iter([uri])):
            digest.update(piece)
    except DataUriUnreadable:  # it is refused when the job starts
        return None
    return digest.hexdigest()
