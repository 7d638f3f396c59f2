# ruff: noqa: INP001 - a program, not a package
"""The reference of log events, read from the calls of loggers in the code."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from scripts.docs.table import MADE, ROOT, page, table

SOURCE: Final = ROOT / "src/fleek"
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

HEAD: Final = """
Each line of the log has an event, by which it can be searched for, and keys with its details. With
the setting `LOG_FORMAT=json`, lines are JSON objects with the event in `event`. `error` needs an
action by an operator; `warning` is temporary or limited to one job; `info` is normal operation. A key
with `*` is not present in every line, and `…` stands for further keys. Each line also has
`timestamp` and `level`, and lines within the work for a job or a request have its keys, such as
`job_id`.
"""


@dataclass
class _Event:
    """An event, with the levels, keys and modules of all calls that log it."""

    levels: set[str] = field(default_factory=set)
    keys: list[set[str]] = field(default_factory=list)  # of each call
    open: bool = False  # whether a call has keys that its source does not name
    modules: set[str] = field(default_factory=set)

    def row(self, name: str) -> tuple[str, ...]:
        """Return its row in the table."""
        always = set.intersection(*self.keys)
        named = [
            f"`{key}`" if key in always else f"`{key}`*" for key in sorted(set().union(*self.keys))
        ]
        keys = ", ".join([*named, *(["…"] if self.open else [])])
        levels = ", ".join(sorted(self.levels, key=LEVELS.index))
        return (
            f"`{name}`",
            levels,
            keys,
            ", ".join(f"`{module}`" for module in sorted(self.modules)),
        )


def log_events_page() -> str:
    """Return the reference of all log events."""
    events = log_events()
    rows = (events[name].row(name) for name in sorted(events))
    return page(MADE, "# Log events", HEAD, table(("Event", "Level", "Keys", "Module"), rows))


def log_events() -> dict[str, _Event]:
    """Return all events by name."""
    events: dict[str, _Event] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        for call, levels in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _names(call.args[0]):
                event = events.setdefault(name, _Event())
                event.levels |= levels
                event.keys.append({key.arg for key in call.keywords if key.arg} - {"exc_info"})
                event.open |= any(key.arg is None for key in call.keywords)
                event.modules.add(module.removesuffix(".__init__"))
    return events


def _calls(module: ast.Module) -> Iterator[tuple[ast.Call, set[str]]]:
    """Yield the calls of loggers, also by a local name: ``write = log.debug if … else log.info``."""
    local = {
        node.targets[0].id: levels
        for node in ast.walk(module)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if (levels := _levels(node.value))
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and node.args:
            named = local.get(node.func.id) if isinstance(node.func, ast.Name) else None
            if levels := named or _levels(node.func):
                yield node, levels


def _levels(method: ast.expr) -> set[str]:
    """Return the levels of the logger's method that an expression can have as its value."""
    if isinstance(method, ast.IfExp):
        return _levels(method.body) | _levels(method.orelse)
    if isinstance(method, ast.Attribute) and isinstance(method.value, ast.Name):
        level = "error" if method.attr == "exception" else method.attr
        return {level} & {*LEVELS} if method.value.id == "log" else set()
    return set()


def _names(event: ast.expr) -> Iterator[str]:
    """Yield the names that an expression can have as its value."""
    if isinstance(event, ast.IfExp):
        yield from _names(event.body)
        yield from _names(event.orelse)
    elif isinstance(event, ast.Constant) and isinstance(event.value, str):
        yield event.value
    else:
        raise ValueError(f"the name of a log event is not a literal: {ast.unparse(event)}")
