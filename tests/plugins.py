"""Plugins: packages with entry points, installed into a folder on the import path."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from examples import ROOT

GUIDE: Final = ROOT / "docs/how-to/add-a-provider.md"


def install(folder: Path, source: str, project: Mapping[str, Any]) -> None:
    """Install a package of one module into `folder`, like an installer.

    Args:
        folder: Must be on the import path of the process.
        source: The text of the module that the entry point names.
        project: The table of this name of a ``pyproject.toml``, with one entry point.
    """
    ((group, entries),) = project["entry-points"].items()
    ((name, target),) = entries.items()
    module = folder / f"{target.partition(':')[0].replace('.', '/')}.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(source)
    title, version = project["name"], project["version"]
    metadata = folder / f"{title.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {title}\nVersion: {version}\n"
    )
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")


def install_provider(folder: Path, name: str, source: str) -> None:
    """Install a provider whose module has its name and the ending ``_plugin``."""
    points = {"fleek.providers": {name: f"{name}_plugin:connect"}}
    install(folder, source, {"name": f"acme-{name}", "version": "1.0", "entry-points": points})


def guide_source() -> str:
    """Return the smallest provider of the guide."""
    return _blocks("python")[0]


def install_guide(folder: Path) -> None:
    """Install the smallest provider of the guide, `echo`, with the guide's metadata."""
    (metadata,) = _blocks("toml")
    install(folder, guide_source(), tomllib.loads(metadata)["project"])


def install_lamp(folder: Path) -> None:
    """Install the guide's provider that calls a host, `lamp`."""
    install_provider(folder, "lamp", _blocks("python")[1])


def install_lamp_with_callbacks(folder: Path) -> None:
    """Install the same with the methods for callbacks, put together as the guide says, as `lit`."""
    (methods,) = _blocks("py")
    imports = (
        "from fleek.domain.errors import CallbackRejected, Unreadable\n"
        "from fleek.providers.base import Callback\n"
        "from fleek.settings import Settings\n"
    )
    source = _blocks("python")[1].replace("\n\nLAMP =", f"\n{imports}\nLAMP =")
    source = source.replace('"id": key}', '"id": key, "callback": self._address(attempt)}')
    source = source.replace("    async def _task(", f"{methods}\n    async def _task(")
    install_provider(folder, "lit", source)


def _blocks(language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, GUIDE.read_text(), re.MULTILINE | re.DOTALL)
