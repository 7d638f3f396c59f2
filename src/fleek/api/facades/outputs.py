"""What jobs have made, as facades present it."""

from typing import Any, Final

from fleek.domain.errors import NotFound
from fleek.domain.media import Media
from fleek.engine.runtime import Runtime
from fleek.schemas import Addresses
from fleek.schemas.read import media_name

MAX_TEXT: Final = 1024 * 1024  # bytes of a text that a response holds


def address_of(media: Media, addresses: Addresses) -> str:
    """Return an address of a file that needs no key, takes one, and leads nowhere else."""
    name = media_name(media)
    query = addresses.query(name)
    return f"{addresses.public}/media/{name}{query}{'&' if query else '?'}redirect=false"


def is_text(media: Media) -> bool:
    """Whether a file is what a language model has said, which responses hold themselves."""
    return media.content_type.partition(";")[0] in {"text/plain", "application/json"}


async def text_of(rt: Runtime, media: Media) -> str | None:
    """Return what a text file holds; None: it is too long, or has been removed."""
    if media.size_bytes > MAX_TEXT:
        return None
    try:
        parts: list[Any] = [part async for part in rt.storage.read(media.key)]
    except NotFound:
        return None
    return b"".join(parts).decode("utf-8", "replace")
