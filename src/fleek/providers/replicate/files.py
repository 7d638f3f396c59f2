"""Replicate's files API: media inputs that are too large for a request.

Source: https://replicate.com/docs/reference/http#files.create
"""

import asyncio
import secrets
from typing import Any, Final

from fleek.domain.errors import InputUnusable, ProviderUnavailable
from fleek.outbound.addresses import MAX_URL
from fleek.providers.base import InputFile
from fleek.providers.http import Api, detail, raise_for_read, read_errors
from fleek.providers.replicate.wire import NAME

REFUSED: Final = frozenset({400, 413, 415, 422})


async def send_file(api: Api, file: InputFile) -> str:
    """Send a file, and return the address that stands for it; Replicate keeps it for a day.

    Raises:
        InputUnusable: Replicate refuses it.
        ProviderUnavailable: It could not be sent.
    """
    boundary = secrets.token_hex(16)
    content = await asyncio.to_thread(_form, file, boundary)
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    with read_errors(NAME):
        answer = await api.post("/files", content, headers)
        if answer.status in REFUSED:
            message = f"{NAME} refused a file ({answer.status}): {detail(answer)}"
            raise InputUnusable(message, code="input_refused")
        raise_for_read(answer, NAME)
        address = await answer.understood(_address)
    if address is None:
        raise ProviderUnavailable(f"{NAME}'s response names no address of the file")
    return address


def _form(file: InputFile, boundary: str) -> bytes:
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="content"; filename="{file.name}"\r\n'
        f"Content-Type: {file.content_type}\r\n\r\n"
    )
    return b"".join((head.encode(), file.path.read_bytes(), f"\r\n--{boundary}--\r\n".encode()))


def _address(body: dict[str, Any]) -> str | None:
    urls = body.get("urls")
    address = urls.get("get") if isinstance(urls, dict) else None
    if not isinstance(address, str) or len(address) > MAX_URL:
        return None
    return address if address.startswith(("https://", "http://")) else None
