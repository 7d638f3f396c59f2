# ruff: noqa: INP001 - a program, not a package
"""Makes the client's values from the wire format: ``python -m scripts.make_client_models``.

So the client needs no pydantic. A test fails while the file differs.
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from fleek.schemas import (
    JobCancelled,
    JobRead,
    ModelRead,
    batches,
    costs,
    events,
    keys,
    queue,
    uploads,
    webhooks,
)

FILE: Final = Path(__file__).parents[1] / "src/fleek/client/models.py"
ROOTS: Final[tuple[type[BaseModel], ...]] = (
    *(JobRead, JobCancelled, ModelRead, events.JobEvent, events.LogText),
    *(costs.EstimateRead, costs.UsageRead, costs.BudgetRead, uploads.UploadRead),
    *(batches.BatchRead, webhooks.EndpointRead, webhooks.EndpointCreated, webhooks.SecretRead),
    *(webhooks.DeliveryRead, webhooks.DeliveryDetail),
    *(keys.KeyRead, keys.KeyCreated, queue.QueueRead),
)
SHOWN: Final = {
    "JobRead": ("id", "status", "model_name", "prompt", "error_code", "error_message"),
    "JobEvent": ("id", "seq", "status", "model_name", "prompt", "error_code"),
    "OutputRead": ("index", "content_type", "size_bytes", "width", "height", "url"),
    "ModelRead": ("name", "provider", "output"),
    "UploadRead": ("reference", "content_type", "size_bytes", "expires_at"),
    "BatchRead": ("id", "status", "total", "accepted"),
    "KeyRead": ("id", "tenant", "name", "scopes", "expires_at", "revoked_at"),
    "KeyCreated": ("id", "tenant", "name", "scopes", "expires_at"),
}
"""Fields in `repr`; of others, all."""
TITLE: Final = '''\
"""What the client returns: the wire format of version 1.

Made by scripts/make_client_models.py from `fleek.schemas`; edit those.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from fleek.client.wire_model import WireModel
'''
WIDTH: Final = 95
NAMES: Final[Mapping[Any, str]] = {list: "list"}


class Writer:
    """Writes classes in the order in which they need each other."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.classes: dict[str, str] = {}

    def model(self, kind: type[BaseModel]) -> str:
        """Write a class, and return its name."""
        if kind.__name__ not in self.classes:
            base = kind.__mro__[1]
            inherited = {} if base is BaseModel else self._inherited(base)
            own = {n: each for n, each in kind.model_fields.items() if n not in inherited}
            lines = [line for named in own.items() for line in self._field(*named)]
            shown = SHOWN.get(kind.__name__)
            first = [f"SHOWN: ClassVar[tuple[str, ...]] = {shown!r}\n"] if shown else []
            body = textwrap.indent("\n".join([*first, *lines]), "    ")
            self.classes[kind.__name__] = (
                f"@dataclass(frozen=True, slots=True, kw_only=True, repr=False)\n"
                f"class {kind.__name__}({base.__name__ if inherited else 'WireModel'}):\n"
                f'    """{(kind.__doc__ or "").strip().splitlines()[0]}"""\n\n{body}\n'
            )
        return kind.__name__

    def _inherited(self, base: type) -> dict[str, FieldInfo]:
        if not issubclass(base, BaseModel):
            raise TypeError(f"{base} is no model")
        self.model(base)
        return base.model_fields

    def _field(self, name: str, info: FieldInfo) -> Iterator[str]:
        default = ""
        if info.default_factory is not None:
            default = f" = field(default_factory={info.default_factory.__name__})"
        elif not info.is_required():
            default = f" = {info.default!r}"
        yield f"{name}: {self.type_of(info.annotation)}{default}"
        if info.description:
            text = info.description.replace("Null", "None").replace("null", "None")
            yield f'"""{textwrap.fill(text, WIDTH, initial_indent="   ")[3:]}"""'

    def type_of(self, kind: Any) -> str:
        """Return a type as its source; classes are written first."""
        origin, args = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self.type_of(args[0])
        if origin in {Union, UnionType}:
            return " | ".join(self.type_of(each) for each in args)
        if origin is not None:  # a list, a dict or a Mapping
            inner = ", ".join("str" if origin is Literal else self.type_of(each) for each in args)
            return "str" if origin is Literal else f"{NAMES.get(origin, 'dict')}[{inner}]"
        if kind in {Any, NoneType, AwareDatetime}:
            return {Any: "Any", NoneType: "None"}.get(kind, "datetime")
        return self._class(kind)

    def _class(self, kind: type) -> str:
        if issubclass(kind, BaseModel):
            return self.model(kind)
        if issubclass(kind, Enum):
            return self._enum(kind)
        if kind not in {str, int, float, bool, datetime, UUID}:
            raise TypeError(f"{kind} has no form in the client yet")
        return kind.__name__

    def _enum(self, kind: type[Enum]) -> str:
        if kind.__module__.startswith("fleek.domain."):
            self.imports.add(f"from {kind.__module__} import {kind.__name__}")
        else:
            members = "".join(f'    {each.name} = "{each.value}"\n' for each in kind)
            doc = (kind.__doc__ or "").strip().splitlines()[0]
            self.classes[kind.__name__] = (
                f'class {kind.__name__}(StrEnum):\n    """{doc}"""\n\n{members}'
            )
        return kind.__name__


def source() -> str:
    """Return what the file must hold."""
    writer = Writer()
    for root in ROOTS:
        writer.model(root)
    text = "\n".join([TITLE, *sorted(writer.imports), "\n", "\n\n".join(writer.classes.values())])
    for step in (["check", "--fix", "--select=I,F401"], ["format"]):
        done = subprocess.run(  # noqa: S603 - our own linter on our own file
            [sys.executable, "-m", "ruff", *step, "--quiet", "--stdin-filename", str(FILE), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout
    return text


def main() -> None:
    """Write the file."""
    FILE.write_text(source())


if __name__ == "__main__":
    main()
