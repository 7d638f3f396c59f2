# ruff: noqa: INP001 - a hook of the build, not a package
"""Puts the modules of the client, which are listed in pyproject.toml, into its distributions."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ClientModules(BuildHookInterface[Any]):
    """Takes them from the repository's sources, or from those of a source distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files of a build; an editable one finds all of them by a path."""
        if version == "editable":
            return
        here = Path(self.root) / "src"
        source = here if here.is_dir() else Path(self.root).parents[1] / "src"
        below = "src/" if self.target_name == "sdist" else ""
        for name in self.config["files"]:
            build_data["force_include"][str(source / name)] = f"{below}{name}"
