"""Workflow templates: a folder of files, each a workflow in API format with named slots.

A template is the JSON object that ComfyUI exports with *Export (API)*, below ``workflow``, beside
the slots that a request may fill::

    {
      "description": "SDXL",
      "output": "image",
      "slots": {
        "prompt": "6.text",
        "seed": "3.seed",
        "steps": {"at": "3.steps", "type": "integer", "maximum": 50},
        "image": "10.image"
      },
      "workflow": {"3": {"class_type": "KSampler", "inputs": {…}}, …}
    }

A place is ``node.input``, where the node is named by its id or its title. The value that the
workflow has there is the default of the slot, and determines its type.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationError

from fleek.domain.errors import ProviderRejected
from fleek.domain.job import MODEL_NAME, ModelName
from fleek.domain.values import dataclass
from fleek.providers.base import Model, Schema, prompt_note
from fleek.providers.foreign_json import NotJson, parse

PROMPT: Final = "prompt"
MAX_BYTES: Final = 5 * 1_048_576  # of a template
MAX_SLOTS: Final = 200
OUTPUTS: Final = frozenset({"image", "animation", "video", "audio", "text"})
KEYWORDS: Final = frozenset(
    ["type", "description", "enum", "default", "minimum", "maximum", "minLength", "maxLength"]
)
"""What a slot may state of JSON Schema."""

SEEDS: Final = frozenset({"seed", "noise_seed"})
WHOLE: Final = SEEDS | {"steps", "width", "height", "batch_size", "length"}
"""Inputs that take whole numbers. An export has ``8`` for ``8.0``, so other ones take any number."""

LOADERS: Final[Mapping[str, str]] = {
    "LoadImage": "image",
    "LoadImageMask": "image",
    "LoadImageOutput": "image",
    "LoadAudio": "audio",
    "LoadVideo": "file",
}
"""The nodes that read an uploaded file, each with its input that names it."""

MAX_SEED: Final = 2**32 - 1  # some nodes take no larger one
FILE: Final = {"type": "string", "format": "uri"}

_SLOT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Unusable(ValueError):
    """The template has an error, which the message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A parameter of a workflow."""

    places: tuple[tuple[str, str], ...]  # ids of nodes, each with the name of an input
    schema: Schema
    file: bool = False  # whether it takes a media input
    random: bool = False  # whether each attempt draws a number unless the request names one
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A template as a model."""

    nodes: Mapping[str, Mapping[str, Any]]
    slots: Mapping[str, Slot]
    description: str
    output: str | None

    @property
    def schema(self) -> Schema:
        """The schema of the parameters, without the prompt."""
        named = {name: slot for name, slot in self.slots.items() if name != PROMPT}
        return {
            "type": "object",
            "properties": {name: slot.schema for name, slot in named.items()},
            "required": [name for name, slot in named.items() if slot.required],
            "additionalProperties": False,
            **prompt_note(exists=PROMPT in self.slots, required=True),
        }

    def model(self, name: ModelName) -> Model:
        """Return the model as it is listed."""
        return Model(
            name=name, description=self.description, schema=self.schema, output=self.output
        )

    def filled(
        self, prompt: str, given: Mapping[str, Any], *, files: Collection[str], seed: int
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """Return the workflow with the values of a request, and the numbers that were drawn.

        Args:
            prompt: For the slot of this name, if there is one.
            given: The parameters.
            files: The names of parameters that hold what `upload` has returned.
            seed: For slots of random numbers that the request does not name.

        Raises:
            ProviderRejected: A parameter is unknown, or not of its type.
        """
        values = self._values(prompt, given, files)
        drawn = {
            name: seed % (int(slot.schema.get("maximum", MAX_SEED)) + 1)
            for name, slot in self.slots.items()
            if slot.random and name not in values
        }
        nodes = {key: {**node, "inputs": {**node["inputs"]}} for key, node in self.nodes.items()}
        for name, value in (values | drawn).items():
            for key, entry in self.slots[name].places:
                nodes[key]["inputs"][entry] = value
        return nodes, drawn

    def _values(
        self, prompt: str, given: Mapping[str, Any], files: Collection[str]
    ) -> dict[str, Any]:
        values = {**given, **({PROMPT: prompt} if PROMPT in self.slots else {})}
        for name, value in values.items():
            slot = self.slots.get(name)
            if slot is None:
                raise ProviderRejected(f"{name}: is not a parameter of this workflow")
            if not isinstance(value, str | int | float):  # a list would be a link between nodes
                raise ProviderRejected(f"{name}: must be a text or a number")
            if slot.file and name not in files:
                raise ProviderRejected(f"{name}: must be a media input")
        return values


def read_folder(folder: Path) -> Mapping[ModelName, Workflow]:
    """Return the templates of a folder by their names: ``NAME.json``, or ``OWNER/NAME.json``.

    Raises:
        Unusable: There is none, or one has an error.
    """
    paths = sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])
    if not paths:
        raise Unusable(f"there is no workflow in {folder}: export one as JSON into it")
    return dict(_named(folder, path) for path in paths)


def _named(folder: Path, path: Path) -> tuple[ModelName, Workflow]:
    name = path.relative_to(folder).as_posix().removesuffix(".json")
    if MODEL_NAME.fullmatch(name) is None:
        raise Unusable(f"{name}.json: the file's name is not a valid name of a model")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
        return ModelName(name), read_workflow(parse(content))
    except OSError as error:
        raise Unusable(f"{name}.json: cannot be read: {error.strerror}") from error
    except NotJson as error:
        raise Unusable(f"{name}.json: is not JSON, or larger than 5 MiB") from error
    except Unusable as error:
        raise Unusable(f"{name}.json: {error}") from error


def read_workflow(document: Any) -> Workflow:
    """Return the workflow in a template.

    Raises:
        Unusable: It has an error.
    """
    if not isinstance(document, dict) or not isinstance(document.get("workflow"), dict):
        raise Unusable('must be an object with "slots" and "workflow"')
    if unknown := sorted(document.keys() - {"description", "output", "slots", "workflow"}):
        raise Unusable(f'has the unknown key "{unknown[0]}"')
    description, output = document.get("description", "A ComfyUI workflow"), document.get("output")
    if not isinstance(description, str) or (output is not None and output not in OUTPUTS):
        raise Unusable(f'"description" must be a text, and "output" one of {sorted(OUTPUTS)}')
    nodes, slots = document["workflow"], document.get("slots", {})
    _check_nodes(nodes)
    if not isinstance(slots, dict) or len(slots) > MAX_SLOTS:
        raise Unusable(f'"slots" must be an object with at most {MAX_SLOTS} slots')
    return Workflow(
        nodes=nodes,
        slots={name: _slot(name, given, nodes) for name, given in slots.items()},
        description=description,
        output=output,
    )


def _check_nodes(nodes: Mapping[str, Any]) -> None:
    if isinstance(nodes.get("nodes"), list):
        raise Unusable("is a saved workflow: export it with Export (API)")
    for key, node in nodes.items():
        known = isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        if not known or not isinstance(node.get("class_type"), str):
            raise Unusable(f'node {key}: must have "class_type" and "inputs"')
    if not nodes:
        raise Unusable("the workflow has no nodes")


def _slot(name: str, given: Any, nodes: Mapping[str, Any]) -> Slot:
    given = {"at": given} if isinstance(given, str | list) else given
    if _SLOT.fullmatch(name) is None:
        raise Unusable(f'slot "{name}": the name may have letters, digits and _')
    if not isinstance(given, dict):
        raise Unusable(f'slot {name}: must be a place such as "6.text", or an object with "at"')
    known = KEYWORDS | {"at", "required", "random", "file"}
    if unknown := sorted(given.keys() - known):
        raise Unusable(f'slot {name}: "{unknown[0]}" is not one of {", ".join(sorted(known))}')
    at = given.get("at")
    places = tuple(_places(name, [at] if isinstance(at, str) else at, nodes))
    key, entry = places[0]
    file = bool(given.get("file", LOADERS.get(nodes[key]["class_type"]) == entry))
    seed = entry in SEEDS and name != PROMPT and "default" not in given
    random = bool(given.get("random", seed)) and not file
    stated = {word: value for word, value in given.items() if word in KEYWORDS}
    derived = FILE if file else _derived(nodes[key]["inputs"][entry], entry, random=random)
    schema = {**derived, **stated}
    if name == PROMPT and schema["type"] != "string":
        raise Unusable("slot prompt: its place must have a text")
    try:
        Draft202012Validator(schema)
    except (ValidationError, ValueError) as error:
        raise Unusable(f"slot {name}: is not a valid schema") from error
    return Slot(
        places=places,
        schema=schema,
        file=file,
        random=random,
        required=bool(given.get("required", False)),
    )


def _places(name: str, given: Any, nodes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(given, list) or not given:
        raise Unusable(f'slot {name}: "at" must be a place such as "6.text", or a list of them')
    for place in given:
        named, dot, entry = place.rpartition(".") if isinstance(place, str) else ("", "", "")
        if not dot:
            raise Unusable(f'slot {name}: a place is a node and an input, such as "6.text"')
        key = _node(name, named, nodes)
        value = nodes[key]["inputs"].get(entry)
        if not isinstance(value, str | int | float):
            what = "is connected to a node" if isinstance(value, list) else "does not exist"
            raise Unusable(f'slot {name}: the input "{entry}" of node {named} {what}')
        yield key, entry


def _node(name: str, named: str, nodes: Mapping[str, Any]) -> str:
    """Return the id of the node with an id or a title."""
    if named in nodes:
        return named
    titled = [key for key, node in nodes.items() if _title(node) == named]
    if len(titled) == 1:
        return titled[0]
    number = "no node" if not titled else "more than one node"
    raise Unusable(f'slot {name}: there is {number} with the id or title "{named}"')


def _title(node: Mapping[str, Any]) -> Any:
    meta = node.get("_meta")
    return meta.get("title") if isinstance(meta, dict) else None


def _derived(value: Any, entry: str, *, random: bool) -> dict[str, Any]:
    """Return the schema that follows from the value in the workflow."""
    if isinstance(value, bool):
        kind = "boolean"
    elif isinstance(value, int) and entry in WHOLE:
        kind = "integer"
    else:
        kind = "string" if isinstance(value, str) else "number"
    return {"type": kind} | ({"minimum": 0} if random else {"default": value})
