"""Lines of a form that the user chooses: ``--format '{id} {status}'``."""

import json
from collections.abc import Mapping
from string import Formatter
from typing import Any

import typer


class LineFormat:
    """The form of a line. Names in braces are fields; a dot goes into an object: ``{route.provider}``."""

    def __init__(self, text: str) -> None:
        r"""Read the form; ``\t`` and ``\n`` are a tab and the end of a line.

        Raises:
            BadParameter: It is not well-formed.
        """
        plain = text.replace(r"\t", "\t").replace(r"\n", "\n")
        try:
            self._parts = [
                (literal, name, spec or "") for literal, name, spec, _ in Formatter().parse(plain)
            ]
        except ValueError as error:
            raise _refused(str(error)) from None
        if any(name == "" for _, name, _ in self._parts):
            raise _refused("{} needs the name of a field")

    def of(self, job: Mapping[str, Any]) -> str:
        """Return the line of a job.

        Raises:
            BadParameter: It has no such field.
        """
        return "".join(
            literal + ("" if name is None else _value(job, name, spec))
            for literal, name, spec in self._parts
        )


def _value(job: Mapping[str, Any], name: str, spec: str) -> str:
    value: Any = job
    for step in name.split("."):
        if value is not None and (not isinstance(value, Mapping) or step not in value):
            raise _refused(f"{name} is not a field of a job; fleek list -n 1 --json shows them")
        value = None if value is None else value[step]
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    try:
        return format(text, spec)
    except ValueError:
        raise _refused(f"{spec!r} is not a width such as <20") from None


def _refused(why: str) -> typer.BadParameter:
    return typer.BadParameter(why, param_hint="--format")
