"""Signed addresses that take one file each, under an id that is reserved before there is a file.

Clients that want the file's address before they send it, and send no key with it, are given one. It works for an
hour, for one tenant and one id.
"""

import re
from typing import Final
from uuid import UUID

from fastapi.requests import Request
from uuid_utils.compat import uuid7

from fleek.api.deps import JOB_ID
from fleek.domain.access import Caller
from fleek.domain.uploads import UploadId
from fleek.engine import media_links
from fleek.engine.runtime import Runtime

NAME: Final = re.compile(rf"({JOB_ID.pattern})\.([^/]{{1,64}})\.upload")
"""An id, a tenant, and a word that no type of a file is: no signature of a file is one of these."""


def reserve(rt: Runtime, *, tenant_id: str) -> tuple[UploadId, str]:
    """Return an id for the upload of a tenant, and the last part of the address that takes the file."""
    upload_id = UploadId(uuid7())
    name = f"{upload_id}.{tenant_id}.upload"
    return upload_id, name + media_links.query(rt.keys.media_secret, name, now=rt.now())


def reserved(name: str) -> tuple[UploadId, str] | None:
    """Return the id and the tenant that an address names; None: it names none."""
    found = NAME.fullmatch(name)
    return None if found is None else (UploadId(UUID(found[1])), found[2])


def caller_of(request: Request, rt: Runtime) -> Caller | None:
    """Return the caller of a signed address: it may send what it names, and nothing else."""
    given = request.query_params
    name, expiry, signature = request.path_params["name"], given.get("exp"), given.get("sig")
    named = reserved(name)
    if named is None or expiry is None or signature is None:
        return None
    if not media_links.is_valid(rt.keys.media_secret, name, expiry, signature, now=rt.now()):
        return None
    return Caller(named[1], None, frozenset())
