"""The page about Docker Compose names what is in `compose.yaml`, and settings that exist."""

import re
from typing import Any, Final

import yaml
from scripts.docs import settings as reference

from examples import FENCE, ROOT

PAGE: Final = (ROOT / "docs/how-to/compose.md").read_text()
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_every_named_service_and_volume_exists() -> None:
    """A command with another name would fail."""
    executed = set(re.findall(r"docker compose exec (\w+)", PAGE))
    copied = set(re.findall(r"docker compose cp (\w+):", PAGE))
    scaled = set(re.findall(r"--scale (\w+)=", PAGE))
    followed = set(re.findall(r"docker compose logs --follow (\w+)", PAGE))
    volumes = set(re.findall(r"^\| ((?:`[a-z-]+`(?:, or )?)+) \|", PAGE, re.MULTILINE))

    assert executed >= {"api", "flower", "postgres"}
    assert executed | copied | scaled | followed <= set(COMPOSE["services"])
    assert {name for each in volumes for name in re.findall(r"[a-z-]{3,}", each)} == set(
        COMPOSE["volumes"]
    )


def test_the_override_has_known_services_and_settings() -> None:
    """A misspelt setting would be ignored."""
    (text,) = (text for language, text in FENCE.findall(PAGE) if language == "yaml")
    services = yaml.safe_load(text)["services"]
    known = {
        spelling
        for described in reference.areas().values()
        for name, field in described
        for spelling in reference.names(name, field)
    }

    assert set(services) == {"api", "worker"}
    assert services["api"]["environment"] == services["worker"]["environment"]
    assert set(services["api"]["environment"]) <= known
