"""Signed addresses that take one file each, under an id that is reserved before there is a file.

Clients that want the file's address before they send it, and send no key with it, are given one. It works for an
hour, for one tenant and one id, and no longer than the key that asked for it.
"""

import re
from typing import Final, Self
from uuid import UUID

from fastapi.requests import Request
from uuid_utils.compat import uuid7

from fleek.api.deps import JOB_ID
from fleek.domain.access import Caller
from fleek.domain.errors import AddressNotSigned
from fleek.domain.uploads import UploadId
from fleek.domain.values import dataclass
from fleek.engine import media_links
from fleek.engine.access import is_current
from fleek.engine.runtime import Runtime

NAME: Final = re.compile(rf"({JOB_ID.pattern})~([^/~]{{1,64}})~([^/~]{{0,100}})\.upload")
"""An id, a tenant, the id of a key (none where none is needed), and a word that no type of a file is: no
signature of a file is one of these."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the last part of an address names."""

    upload_id: UploadId
    tenant_id: str
    key_id: str

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Return what an address names; None: it names nothing."""
        found = NAME.fullmatch(name)
        return None if found is None else cls(UploadId(UUID(found[1])), found[2], found[3])

    @property
    def caller(self) -> Caller:
        """Who asked for the address, and may do nothing by it but send the file."""
        return Caller(self.tenant_id, self.key_id, frozenset())


def reserve(rt: Runtime, who: Caller) -> tuple[UploadId, str]:
    """Return an id for an upload, and the last part of the address that takes the file.

    Raises:
        AddressNotSigned: Callers need keys, and addresses cannot be signed now.
    """
    secret = rt.keys.media_secret
    if rt.keys.required and secret is None:
        raise AddressNotSigned("no MASTER_KEY of this process decrypts the secret of addresses")
    upload_id = UploadId(uuid7())
    name = f"{upload_id}~{who.tenant_id}~{who.key_id or ''}.upload"
    return upload_id, name + media_links.query(secret, name, now=rt.now())


async def caller_of(request: Request, rt: Runtime) -> Caller | None:
    """Return the caller of a signed address: it may send what it names, and nothing else.

    None: it was changed, its time is over, or its key has expired or was revoked.

    Raises:
        DatabaseUnavailable: The key is not known now.
    """
    given = request.query_params
    name, expiry, signature = request.path_params["name"], given.get("exp"), given.get("sig")
    named = Reserved.read(name)
    if named is None or expiry is None or signature is None:
        return None
    if not media_links.is_valid(rt.keys.media_secret, name, expiry, signature, now=rt.now()):
        return None
    return named.caller if await is_current(rt, named.caller) else None
