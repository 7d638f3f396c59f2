"""Sound: a short melody of plucked strings, as WAV with the prompt as metadata."""

import io
import math
import struct
import wave
from array import array
from random import Random
from typing import Final

from fleek.providers.placeholder.spec import OutputSpec

RATE: Final = 22_050  # samples per second, mono, 16 bits

_SCALES: Final = (
    (0, 2, 4, 7, 9),  # semitones above the root: major pentatonic
    (0, 3, 5, 7, 10),  # minor pentatonic
    (0, 2, 3, 7, 9),
)
_STEPS: Final = (-2, -1, -1, 1, 1, 2)  # a melody moves to near notes
_CHUNKS: Final = {"Prompt": b"INAM", "Model": b"IART", "Software": b"ISFT"}


def make(spec: OutputSpec) -> bytes:
    """Return the melody as a WAV file."""
    duration = float(spec.parameters.get("duration", 6))
    beat = 60 / spec.whole("tempo", 100) / 2
    samples = _melody(spec.dice("melody"), duration=duration, beat=beat)
    return _with_record(_wav(samples), spec.record)


def _melody(dice: Random, *, duration: float, beat: float) -> "array[int]":
    scale = dice.choice(_SCALES)
    root = 220 * 2 ** (dice.randrange(-4, 6) / 12)
    length = round(beat * RATE)
    total = round(duration * RATE)
    notes: dict[tuple[int, int], array[int]] = {}  # by step above the root and beats it lasts
    samples = array("h")
    place = dice.randrange(3, 7)
    while len(samples) < total:
        beats = dice.choice((1, 1, 1, 2, 2, 4))
        place = min(max(place + dice.choice(_STEPS), 0), 9)
        if (place, beats) not in notes:
            pitch = root * 2 ** (scale[place % 5] / 12 + place // 5)
            notes[place, beats] = _note(pitch, length * beats)
        samples.extend(notes[place, beats])
    return _faded(samples[:total])


def _note(pitch: float, length: int) -> "array[int]":
    """Return one plucked note that fades to silence, with a soft lower octave."""
    turn = 2 * math.pi * pitch / RATE
    partials = ((1.0, 1.0), (0.5, 0.45), (2.0, 0.35), (3.0, 0.12))
    loud = 11_000
    fall = math.exp(-3.2 / min(length, RATE))
    attack = min(120, length)
    level, sound = float(loud), array("h", bytes(2 * length))
    for i in range(length):
        level *= fall
        wave_now = sum(share * math.sin(turn * part * i) for part, share in partials)
        sound[i] = round(level * wave_now * min(1, i / attack, (length - i) / attack))
    return sound


def _faded(samples: "array[int]") -> "array[int]":
    last = min(len(samples), RATE // 2)
    for i in range(1, last + 1):
        samples[-i] = samples[-i] * i // last
    return samples


def _wav(samples: "array[int]") -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def _with_record(wav: bytes, record: dict[str, str]) -> bytes:
    """Return the file with a LIST chunk of type INFO at its end."""
    comment = f"Parameters: {record['Parameters']}; Seed: {record['Seed']}"
    fields = {code: record[key] for key, code in _CHUNKS.items()} | {b"ICMT": comment}
    body = b"INFO"
    for code, text in fields.items():
        value = text.encode() + b"\0"
        body += code + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2)
    listed = b"LIST" + struct.pack("<I", len(body)) + body
    size = len(wav) + len(listed) - 8
    return wav[:4] + struct.pack("<I", size) + wav[8:] + listed
