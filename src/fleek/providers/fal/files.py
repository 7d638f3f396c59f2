"""fal's storage: media inputs that are too large for a request.

Whatever is wrong with it is no reason to pause the account or a model, which do without it: such errors have a
code of their own, and only the job with the file waits.

Source: the package `fal-client` 1.0.3, its repository ``fal_v3``. Not run against fal itself.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import field
from datetime import timedelta
from typing import Any, Final

from fleek import strict
from fleek.domain.errors import InputUnusable, ProviderUnavailable
from fleek.domain.values import dataclass
from fleek.outbound.addresses import MAX_URL
from fleek.providers.base import InputFile
from fleek.providers.fal.wire import NAME
from fleek.providers.http import (
    MIB,
    Answer,
    Api,
    Unreadable,
    authorization,
    detail,
    raise_for_read,
    read_errors,
)

INLINE_BYTES: Final = 262_144  # of a file that is sent within the request
FALLBACK_BYTES: Final = 4 * MIB  # of one that may be sent so if the storage does not take it
MAX_BYTES: Final = 100 * MIB  # fal's client sends larger files in parts
SENDS: Final = 2  # files that are sent at once; each is in memory
UPLOAD_SECONDS: Final = (
    150.0  # for one file; with the next, and a minute for its token, less than `LIMIT_SECONDS`
)
PLACE_SECONDS: Final = 60.0  # to wait for others that are sent
UNAVAILABLE: Final = "provider_storage_unavailable"
"""The code of an upload that failed and may be repeated."""

SHORTEST: Final = timedelta(days=1)  # an input outlives the queue
REFUSED: Final = frozenset({400, 413, 415, 422})
TOKEN_PATH: Final = "/storage/auth/token?storage_type=fal-cdn-v3"  # noqa: S105 - an address


@dataclass
class FileStorage:
    """Sends files to fal's storage.

    Args:
        rest: The API that gives tokens, with the account's key.
        cdn: The host of files, which takes these tokens.
        lifetime: How long fal keeps the files, at least a day; None: fal's own.
        patience: How long a file waits for others that are sent, in seconds.
    """

    rest: Api
    cdn: Api
    lifetime: timedelta | None = None
    patience: float = PLACE_SECONDS
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SENDS))

    async def send(self, file: InputFile) -> str:
        """Send a file, and return the address that stands for it.

        Raises:
            InputUnusable: fal refuses it, or it is too large.
            ProviderUnavailable: It could not be sent; the code is `UNAVAILABLE`, whatever the reason.
        """
        if file.size_bytes > MAX_BYTES:
            message = f"a file for {NAME} may have {MAX_BYTES // MIB} MiB"
            raise InputUnusable(message, code="input_too_large")
        try:
            async with self._place():
                return await self._send(file)
        except ProviderUnavailable as error:
            message = f"the file could not be stored: {error}"
            raise ProviderUnavailable(message, code=UNAVAILABLE) from error

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        """Wait until this file may be sent."""
        try:
            async with asyncio.timeout(self.patience):
                await self._places.acquire()
        except TimeoutError as error:
            raise ProviderUnavailable("others that are being sent take too long") from error
        try:
            yield
        finally:
            self._places.release()

    async def _send(self, file: InputFile) -> str:
        with read_errors(NAME):
            token = await self._token()
            content = await asyncio.to_thread(file.path.read_bytes)
            headers = {**token, **self._headers(file)}
            answer = await self.cdn.post("/files/upload", content, headers)
            _raise_for_file(answer)
            return _address(answer.json())

    async def _token(self) -> Mapping[str, str]:
        """Return the authorization for one upload; tokens are short-lived."""
        answer = await self.rest.post(TOKEN_PATH, b"{}")
        raise_for_read(answer, NAME)
        body = answer.json()
        token, kind = body.get("token"), body.get("token_type")
        if not (isinstance(token, str) and token and isinstance(kind, str) and kind):
            raise Unreadable("the response has no token")
        return authorization(token, kind)

    def _headers(self, file: InputFile) -> Mapping[str, str]:
        extension = file.name.rpartition(".")[2]
        headers = {
            "content-type": file.content_type,
            "x-fal-file-name": f"{file.sha256}.{extension}",
        }
        if self.lifetime is not None:
            seconds = int(max(self.lifetime, SHORTEST).total_seconds())
            expiry = strict.dumps({"expiration_duration_seconds": seconds}).decode()
            headers |= dict.fromkeys(
                ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"), expiry
            )
        return headers


def _raise_for_file(answer: Answer) -> None:
    if answer.status in REFUSED:
        message = f"{NAME} refused a file ({answer.status}): {detail(answer)}"
        raise InputUnusable(message, code="input_refused")
    if answer.status in {401, 403}:  # of the upload's own token: the account's key was accepted
        raise ProviderUnavailable(f"{NAME} did not accept the token of an upload")
    raise_for_read(answer, NAME)


def _address(body: Mapping[str, Any]) -> str:
    address = body.get("access_url")
    if not isinstance(address, str) or len(address) > MAX_URL:
        raise Unreadable("the response names no address of the file")
    if not address.startswith(("https://", "http://")):
        raise Unreadable("the response names no address of the file")
    return address
