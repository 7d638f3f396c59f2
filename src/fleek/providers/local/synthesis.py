"""The program of a synthesis process: texts come in on standard input, sounds go out.

It is run as a file, with nothing but the standard library and the voice, so that a defect of the
native library ends this process and not the service. A request is a line of JSON: ``text``, ``speed``,
``seed``. The response is lines of JSON, ``{"share": 0.5}`` while it works, and at the end
``{"bytes": n}``, followed by so many bytes of a WAV file, or ``{"error": "…"}``.

It ends as soon as standard input does, also in the middle of a text: nobody would read the sound.
"""

import json
import os
import queue
import struct
import sys
import threading
from typing import IO, Any

WIDTH = 2  # bytes of a sample
NICE = 5


def main() -> None:
    """Serve requests until standard input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no response
    os.nice(NICE)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    voice = _voice()
    while True:
        request = requests.get()
        try:
            sound = _spoken(voice, request, out)
        except Exception as error:  # noqa: BLE001 - of the library, which may raise anything
            _send(out, {"error": f"{type(error).__name__}: {error}"[:300]})
        else:
            _send(out, {"bytes": len(sound)}, sound)


def _voice() -> Any:
    from hibari import Hibari  # noqa: PLC0415 - an extra

    return Hibari(threads=1)


def _read(lines: IO[bytes], requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in lines:
        requests.put(json.loads(line))
    os._exit(0)


def _send(out: IO[bytes], header: dict[str, Any], content: bytes = b"") -> None:
    out.write(json.dumps(header).encode() + b"\n" + content)
    out.flush()


def _spoken(voice: Any, request: dict[str, Any], out: IO[bytes]) -> bytes:
    """Return a text as a WAV file; empty if nothing in it can be spoken."""
    import numpy as np  # noqa: PLC0415 - comes with the extra

    noise = np.random.default_rng(request["seed"])
    phrases = voice.phonemize(request["text"])
    pieces = []
    for number, phrase in enumerate(phrases):
        wave = voice.from_ids(voice.ids(phrase), request["speed"], noise)
        pieces.append((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
        _send(out, {"share": (number + 1) / len(phrases)})
    samples = b"".join(pieces)
    about = f"speed {request['speed']:g}, seed {request['seed']}"
    return wav(samples, rate=voice.sample_rate, about=about) if samples else b""


def wav(samples: bytes, *, rate: int, about: str) -> bytes:
    """Return a WAV file with one channel, and its software and a comment as its metadata."""
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * WIDTH, WIDTH, 8 * WIDTH)
    info = b"INFO" + _chunk(b"ISFT", b"Fleek, hibari\0") + _chunk(b"ICMT", about.encode() + b"\0")
    body = b"WAVE" + _chunk(b"fmt ", form) + _chunk(b"LIST", info) + _chunk(b"data", samples)
    return _chunk(b"RIFF", body)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


if __name__ == "__main__":
    main()
