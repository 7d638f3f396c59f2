"""What is compared of signed files is what the model made."""

from pathlib import Path

import pytest

import samples
from certificates import an_identity
from chaos.signatures import unsigned
from fleek.emulator.media import render
from fleek.engine.certificates import open_signer

TYPES = {"png": "image/png", "webp": "image/webp", "wav": "audio/wav"}


@pytest.mark.usefixtures("_full_suite")  # starts a process for each file
@pytest.mark.parametrize("kind", TYPES)
async def test_a_file_without_its_manifest_is_the_original(kind: str, tmp_path: Path) -> None:
    """To the last byte."""
    identity = an_identity(tmp_path)
    signer = open_signer(identity.certificates, identity.key, seconds=60, fails_open=False)
    source, target = tmp_path / "received", tmp_path / "signed"
    source.write_bytes(render("a cat", kind))

    await signer.sign(source, target, TYPES[kind], samples.a_job())

    assert target.read_bytes() != source.read_bytes()
    assert unsigned(target.read_bytes()) == source.read_bytes()


@pytest.mark.parametrize("kind", ["png", "webp", "wav", "jpg"])
@pytest.mark.parametrize("behind", [b"", bytes(512)])
def test_a_file_that_is_not_signed_stays_as_it_is(kind: str, behind: bytes) -> None:
    """Any type, also with zeros behind its end."""
    content = render("a cat", kind) + behind

    assert unsigned(content) == content
