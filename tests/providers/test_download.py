"""The bytes of an output, whoever the provider is; what hosts do wrong is in Replicate's tests."""

import base64

from fleek.domain.long_text import PIECE
from fleek.domain.media import Output
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.providers.download import Limits, read_output


async def test_a_large_data_uri_is_decoded_in_parts() -> None:
    """A server may put a film into its answer; nobody waits for all of it at once."""
    content = bytes(range(256)) * 8192
    output = Output(uri="data:video/mp4;base64," + base64.b64encode(content).decode())

    parts = [part async for part in read_output(Client(Policy()), output, Limits())]

    assert b"".join(parts) == content
    assert max(map(len, parts)) <= 2 * PIECE
