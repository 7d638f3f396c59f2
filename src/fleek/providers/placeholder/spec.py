"""The specification of an output: everything that determines its content."""

import json
import random
from collections.abc import Mapping
from dataclasses import field
from hashlib import blake2b, sha256
from typing import Any, Final

from fleek.domain.data_uri import decode
from fleek.domain.inputs import texts_of, with_values
from fleek.domain.job import Job, ModelName
from fleek.domain.values import dataclass

_FRAME: Final = frozenset(
    {
        "seed", "num_outputs",
        "width", "height", "aspect_ratio", "megapixels", "resolution",
        "output_format", "output_quality", "fps", "frames", "duration", "caption",
        "disable_safety_checker",
    }
)  # fmt: skip
"""Parameters for the number and the format of outputs, without effect on their content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """The specification of one output; equal specifications give equal content."""

    model: ModelName
    prompt: str
    parameters: Mapping[str, Any]  # valid by the model's schema; of files, their hashes
    seed: int  # 0-4294967295
    files: Mapping[str, bytes] = field(default_factory=dict)  # by the pointer to their parameter

    def dice(self, topic: str) -> random.Random:
        """Return a random generator for one topic, the same for equal specifications."""
        shaping = {key: value for key, value in self.parameters.items() if key not in _FRAME}
        parts = [self.model, self.prompt, shaping, self.seed, topic]
        text = json.dumps(parts, sort_keys=True, default=str)
        digest = blake2b(text.encode(), digest_size=16).digest()
        return random.Random(int.from_bytes(digest))  # noqa: S311 - art, not a secret

    def whole(self, name: str, default: int) -> int:
        """Return a parameter as an int; for a JSON schema, 64.0 is an integer, too."""
        return int(self.parameters.get(name, default))

    def word(self, name: str, default: str) -> str:
        """Return a parameter that is a string."""
        return str(self.parameters.get(name, default))

    @property
    def record(self) -> dict[str, str]:
        """The metadata of every file, as clean text: no NUL, no lone surrogate."""
        return {
            "Model": clean(self.model),
            "Prompt": clean(self.prompt),
            "Parameters": clean(json.dumps(dict(self.parameters), ensure_ascii=False)),
            "Seed": str(self.seed),
            "Software": "Fleek",
        }


def spec_of(job: Job, seed: int) -> OutputSpec:
    """Return the specification of an output of a job, whose files are among its parameters."""
    texts = texts_of(job.input)
    files = {each.pointer: b"".join(decode(iter((texts[each.pointer],)))) for each in job.inputs}
    hashes = {
        pointer: f"sha256:{sha256(content).hexdigest()}" for pointer, content in files.items()
    }
    parameters = with_values(job.input, hashes)
    return OutputSpec(
        model=job.model, prompt=job.prompt, parameters=parameters, seed=seed, files=files
    )


def clean(text: str) -> str:
    """Return text that any file format can hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")
