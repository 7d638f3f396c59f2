"""What the server sends when a prediction has ended."""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping

from pydantic import SecretStr

from fleek.domain.errors import CallbackRejected
from fleek.providers.base import Callback
from fleek.providers.cog.answers import Unreadable, answer


async def read_callback(
    headers: Mapping[str, str], body: bytes, *, token: SecretStr | None
) -> Callback:
    """Return what a message says.

    The server signs nothing: what proves that it comes from there is the token in the URL, and
    the bearer `token` if there is one.

    Raises:
        CallbackRejected: It is not about one of our predictions, or has no token.
    """
    if token is not None:
        named = {name.lower(): value for name, value in headers.items()}
        given = named.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token.get_secret_value()}".encode()):
            raise CallbackRejected("the callback does not carry WEBHOOK_AUTH_TOKEN")
    try:
        prediction = await asyncio.to_thread(answer, body)
    except Unreadable as error:
        raise CallbackRejected(str(error)) from error
    webhook_id = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return Callback(webhook_id=webhook_id, prediction=prediction, final=True)
