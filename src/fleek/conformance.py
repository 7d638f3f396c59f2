"""Whether an adapter has the members of its port, in the right shape.

A plugin does not inherit from the port that it is written against. Missing members are reported
when it is opened, not in the middle of a job.
"""

from collections.abc import Callable, Iterator, Sequence
from inspect import (
    Parameter,
    Signature,
    get_annotations,
    iscoroutinefunction,
    isfunction,
    signature,
)
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def misfits(adapter: object, port: type, capabilities: Sequence[type] = ()) -> list[str]:
    """Return what is wrong with the shape of an adapter, a phrase for each member; empty: nothing.

    Args:
        adapter: The open adapter.
        port: A Protocol. The adapter must have all its members.
        capabilities: Further Protocols. An adapter that has one member must have the others.
    """
    claimed = (
        capability
        for capability in capabilities
        if any(hasattr(adapter, name) for name in _members(capability))
    )
    return [
        phrase
        for protocol in (port, *claimed)
        for name, wanted in _members(protocol).items()
        for phrase in _misfits(adapter, name, wanted)
    ]


def _members(protocol: type) -> dict[str, Any]:
    """Return a protocol's functions by name, and its values' types."""
    functions = {name: member for name, member in vars(protocol).items() if isfunction(member)}
    properties = {
        name: get_type_hints(member.fget)["return"]
        for name, member in vars(protocol).items()
        if isinstance(member, property)
    }
    hints = get_type_hints(protocol)
    values = {name: hints[name] for name in get_annotations(protocol)}
    members = values | properties | functions
    return {name: member for name, member in members.items() if not name.startswith("_")}


def _misfits(adapter: object, name: str, wanted: Any) -> Iterator[str]:
    is_method = isfunction(wanted)
    try:
        member = getattr(adapter, name)
    except AttributeError:
        yield f"{name}{'()' if is_method else ''} is missing"
        return
    if not is_method:
        if not _fits(member, wanted):
            yield f"{name} must be {_described(wanted)}"
    elif not callable(member):
        yield f"{name} must be a method"
    else:
        yield from _method_misfits(name, member, wanted)


def _method_misfits(
    name: str, member: Callable[..., Any], wanted: Callable[..., Any]
) -> Iterator[str]:
    if iscoroutinefunction(wanted) and not iscoroutinefunction(member):
        yield f"{name}() must be 'async def' without 'yield'"
    elif iscoroutinefunction(member) and not iscoroutinefunction(wanted):
        streams = hasattr(get_origin(get_type_hints(wanted)["return"]), "__anext__")
        form = "'async def' with 'yield'" if streams else "'def'"
        yield f"{name}() must be {form}"
    parameters = list(signature(wanted).parameters.values())[1:]
    if not _takes(member, parameters):
        bare = [parameter.replace(annotation=Parameter.empty) for parameter in parameters]
        yield f"{name}() must take {Signature(bare)}"


def _takes(member: Callable[..., Any], parameters: Sequence[Parameter]) -> bool:
    """Whether a method can be called as the engine calls it: by position, unless keyword-only."""
    by_name = {
        parameter.name: None
        for parameter in parameters
        if parameter.kind is Parameter.KEYWORD_ONLY
    }
    try:
        signature(member).bind(*[None] * (len(parameters) - len(by_name)), **by_name)
    except TypeError:
        return False
    except ValueError:  # not written in Python: its signature is unknown
        return True
    return True


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in {Union, UnionType}:
        return any(_fits(value, option) for option in get_args(hint))
    return isinstance(value, origin or getattr(hint, "__supertype__", hint))  # of a NewType


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    kind = getattr(hint, "__supertype__", hint)
    return f"of type {getattr(kind, '__name__', kind)}"
