"""What a model's name asks for: an official model, a version, or a deployment of one's own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleek.domain.errors import NotFound
from fleek.domain.job import ModelName

DEPLOYMENT: Final = "deployment"
"""In place of a version: ``owner/name:deployment`` runs the deployment of this name."""

_PART = r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}"
_NAME: Final = re.compile(
    rf"(?:(?P<model>{_PART}/{_PART})(?::(?P<version>[0-9a-f]{{64}}|{DEPLOYMENT}))?"
    r"|(?P<bare>[0-9a-f]{64}))"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be run."""

    model: str | None  # "owner/name"; None: not told, the version is enough
    version: str | None = None  # 64 hexadecimal digits; None: whatever the host runs now
    deployment: bool = False  # `model` names a deployment

    @property
    def path(self) -> str:
        """Where a prediction is created, below the API's base."""
        if self.deployment:
            return f"/deployments/{self.model}/predictions"
        return "/predictions" if self.version else f"/models/{self.model}/predictions"

    @property
    def schema_path(self) -> str | None:
        """Where its parameters are described; None: nowhere that can be told from its name."""
        if self.model is None or self.deployment:
            return None
        path = f"/models/{self.model}"
        return path if self.version is None else f"{path}/versions/{self.version}"

    def ran(self, row: Mapping[str, Any]) -> bool:
        """Whether a prediction, as the API shows it, is a run of this."""
        if self.deployment:
            return row.get("deployment") == self.model
        if self.version is not None:  # no two models share one
            return row.get("version") == self.version
        return row.get("model") == self.model


def read_name(name: ModelName) -> Target:
    """Read ``owner/name``, ``owner/name:version``, a bare version or ``owner/name:deployment``.

    Raises:
        NotFound: It is none of these.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise NotFound(
            "no such model: the name must be owner/name, owner/name:version with a version of "
            f"64 digits, such a version alone, or owner/name:{DEPLOYMENT}"
        )
    if match["version"] == DEPLOYMENT:
        return Target(match["model"], deployment=True)
    return Target(match["model"], match["version"] or match["bare"])
