"""A program of its own that signs one file with C2PA, and ends.

``python -m fleek.output_signer`` reads from its standard input a JSON object with ``source`` and ``target``
(paths), ``content_type``, ``algorithm``, ``certificates`` and ``key`` (PEM), ``manifest``, ``seconds`` (of
computing, at most) and ``memory`` (bytes). It writes the signed copy, and nothing if it fails. Whatever is in
the file, it cannot take more than these limits. It calls no other host.

A file that already has a manifest keeps it, as the parent of the new one.

Source: https://github.com/contentauth/c2pa-python, 0.38.1.
"""

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from c2pa import Builder, C2paBuilderIntent, C2paSignerInfo, Context, Reader, Signer

COURTESY: Final = 5  # of 19: the service comes first
MOST_ADDED: Final = 16 << 20  # bytes that a manifest may add to a file
WITHOUT_NETWORK: Final = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": False},
    "builder": {"thumbnail": {"enabled": False}},
}


def limit(*, seconds: int, memory: int, size: int) -> None:
    """Limit this process."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, size + MOST_ADDED),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))
    os.nice(COURTESY)


def sign(source: Path, target: Path, order: Mapping[str, Any]) -> None:
    """Write a signed copy of a file.

    Raises:
        C2paError: It cannot be signed.
    """
    content_type, manifest = order["content_type"], dict(order["manifest"])
    context = Context.from_dict(WITHOUT_NETWORK)
    with source.open("rb") as file:
        has_manifest = Reader.try_create(content_type, file, context=context) is not None
    if has_manifest:  # the builder itself states that its parent was opened
        manifest.pop("assertions", None)
    builder = Builder.from_json(json.dumps(manifest), context=context)
    if has_manifest:
        builder.set_intent(C2paBuilderIntent.EDIT)
    certificates, key = order["certificates"].encode(), order["key"].encode()
    signer = Signer.from_info(C2paSignerInfo(order["algorithm"], certificates, key, None))
    with source.open("rb") as file, target.open("w+b") as signed:
        builder.sign(signer, content_type, file, signed)


def main() -> None:
    """Sign what the standard input names."""
    order = json.load(sys.stdin)
    source, target = Path(order["source"]), Path(order["target"])
    limit(seconds=order["seconds"], memory=order["memory"], size=source.stat().st_size)
    try:
        sign(source, target, order)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    main()
