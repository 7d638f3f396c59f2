"""The services of compose.yaml, read like a container engine."""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, Final, Self

import yaml

from containers.image import ROOT, instructions

COMPOSE: Final = ROOT / "compose.yaml"
DEFAULT_GRACE_SECONDS: Final = 10.0  # an engine's, for services that do not set it


def services() -> dict[str, Any]:
    """Return the services, with shared parts merged in."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


class Part:
    """One service: its command, environment and health check."""

    def __init__(self, service: Mapping[str, Any]) -> None:
        self.command: list[str] = [_filled(word) for word in service.get("command", ())]
        self.environment: dict[str, str] = {
            name: _filled(value) for name, value in service.get("environment", {}).items()
        }
        self.health = _health(service)
        self.reads_secrets = "secrets:/run/secrets:ro" in service.get("volumes", ())
        self.grace_seconds = _seconds(service.get("stop_grace_period"))

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the service of this name."""
        return cls(services()[name])

    def elsewhere(self, places: Mapping[str, str]) -> Self:
        """Return the service with its hosts and ports replaced."""
        self.command = [_moved(word, places) for word in self.command]
        self.health = [_moved(word, places) for word in self.health]
        self.environment = {n: _moved(value, places) for n, value in self.environment.items()}
        return self


def _moved(text: str, places: Mapping[str, str]) -> str:
    for place, other in places.items():
        text = text.replace(place, other)
    return text


def _filled(text: str) -> str:
    """Return a text with its variables replaced by their defaults."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")


def _health(service: Mapping[str, Any]) -> list[str]:
    """Return the command of the health check: the service's, or else the image's."""
    check = service.get("healthcheck")
    if check is not None:
        return list(check.get("test", ()))[1:]
    line = next(line for line in instructions() if line.startswith("HEALTHCHECK "))
    found = line.partition(" CMD ")[2].strip()
    return list(json.loads(found)) if found.startswith("[") else shlex.split(found)


def _seconds(text: str | None) -> float:
    return DEFAULT_GRACE_SECONDS if text is None else float(text.removesuffix("s"))
