"""Templates: their slots as parameters, and the errors of those that are wrong."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest

from comfyworkflows import INVERT, TXT2IMG, workflow_folder
from fleek.domain.errors import ConfigurationError, ProviderRejected
from fleek.providers.comfyui import connect
from fleek.providers.comfyui.workflows import Unusable, read_folder, read_workflow

WRONG: Final[tuple[tuple[Any, str], ...]] = (
    ([], 'must be an object with "slots" and "workflow"'),
    (TXT2IMG["workflow"], 'must be an object with "slots" and "workflow"'),
    ({"workflow": {"nodes": [], "links": []}}, "export it with Export"),
    ({"workflow": {}}, "has no nodes"),
    ({"workflow": {"1": {"class_type": "X"}}}, 'node 1: must have "class_type" and "inputs"'),
    (INVERT | {"slot": {}}, 'unknown key "slot"'),
    (INVERT | {"output": "images"}, '"output" one of'),
    (INVERT | {"slots": []}, '"slots" must be an object'),
    (INVERT | {"slots": {"a b": "1.image"}}, 'slot "a b": the name'),
    (INVERT | {"slots": {"x": 7}}, "slot x: must be a place"),
    (INVERT | {"slots": {"x": {}}}, 'slot x: "at" must be a place'),
    (INVERT | {"slots": {"x": "image"}}, "slot x: a place is a node and an input"),
    (INVERT | {"slots": {"x": "9.image"}}, 'no node with the id or title "9"'),
    (INVERT | {"slots": {"x": "2.image"}}, '"image" of node 2 is connected to a node'),
    (INVERT | {"slots": {"x": "1.name"}}, '"name" of node 1 does not exist'),
    (INVERT | {"slots": {"x": {"at": "1.image", "max": 3}}}, 'slot x: "max" is not one of'),
    (INVERT | {"slots": {"x": {"at": "1.image", "type": "float"}}}, "slot x: is not a valid"),
    (TXT2IMG | {"slots": {"prompt": "3.steps"}}, "slot prompt: its place must have a text"),
)


def test_slots_are_the_parameters() -> None:
    """Types and defaults follow from the workflow; an exported 8 may stand for 8.0."""
    schema = read_workflow(TXT2IMG).schema

    assert schema == {
        "type": "object",
        "properties": {
            "negative_prompt": {"type": "string", "default": "blurry"},
            "seed": {"type": "integer", "minimum": 0},
            "steps": {"type": "integer", "default": 20, "minimum": 1, "maximum": 50},
            "cfg": {"type": "number", "default": 8},
            "sampler": {"type": "string", "default": "euler", "enum": ["euler", "heun"]},
            "num_outputs": {"type": "integer", "default": 1},
        },
        "required": [],
        "additionalProperties": False,
    }


def test_a_file_is_a_slot_that_a_loader_reads() -> None:
    """Its default, a file on the server, is not shown."""
    schema = read_workflow(INVERT).schema

    assert schema["properties"] == {"image": {"type": "string", "format": "uri"}}
    assert schema["required"] == ["image"]


def test_a_request_fills_the_slots() -> None:
    """Everything else is as exported, and the template is not changed."""
    template = deepcopy(TXT2IMG)
    workflow = read_workflow(template)

    nodes, drawn = workflow.filled("a dog", {"steps": 4, "cfg": 2.5}, files=(), seed=7)

    assert drawn == {"seed": 7}
    changed = nodes["3"]["inputs"] | {"seed": 18446744073709551615, "steps": 20, "cfg": 8}
    assert changed == TXT2IMG["workflow"]["3"]["inputs"]
    assert (nodes["3"]["inputs"]["seed"], nodes["3"]["inputs"]["steps"]) == (7, 4)
    assert nodes["6"]["inputs"]["text"] == "a dog"
    assert template == TXT2IMG


def test_a_named_seed_is_used() -> None:
    """And a slot may fill several places."""
    document = deepcopy(TXT2IMG)
    document["slots"]["size"] = {"at": ["5.width", "5.height"]}
    workflow = read_workflow(document)

    nodes, drawn = workflow.filled("x", {"seed": 3, "size": 64}, files=(), seed=7)

    assert (drawn, nodes["3"]["inputs"]["seed"]) == ({}, 3)
    assert (nodes["5"]["inputs"]["width"], nodes["5"]["inputs"]["height"]) == (64, 64)


def test_a_drawn_seed_is_within_its_maximum() -> None:
    """The server refuses larger ones."""
    document = deepcopy(TXT2IMG)
    document["slots"]["seed"] = {"at": "3.seed", "maximum": 9}

    _, drawn = read_workflow(document).filled("x", {}, files=(), seed=12)

    assert drawn == {"seed": 2}


@pytest.mark.parametrize(
    "given", [{"nobody": 1}, {"steps": ["4", 0]}, {"steps": None}, {"steps": {"a": 1}}]
)
def test_a_parameter_never_becomes_a_link(given: dict[str, Any]) -> None:
    """A list among the inputs of a node names another node."""
    with pytest.raises(ProviderRejected):
        read_workflow(TXT2IMG).filled("x", given, files=(), seed=0)


def test_a_name_is_not_a_file() -> None:
    """It would be read from the server's disk."""
    with pytest.raises(ProviderRejected, match="image: must be a media input"):
        read_workflow(INVERT).filled("x", {"image": "../secret.png"}, files=(), seed=0)


@pytest.mark.parametrize(("document", "reason"), WRONG)
def test_a_wrong_template_says_what_is_wrong(document: Any, reason: str) -> None:
    """At the start, not when the first job fails."""
    with pytest.raises(Unusable) as caught:
        read_workflow(document)

    assert reason in str(caught.value)


def test_templates_are_named_by_their_files(tmp_path: Path) -> None:
    """Also with an owner."""
    folder = workflow_folder(tmp_path)
    (folder / "acme").mkdir()
    (folder / "acme" / "painter.json").write_text(json.dumps(TXT2IMG))

    assert list(read_folder(folder)) == ["a-txt2img", "acme/painter", "invert"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", "{", "a.json: is not JSON"),
        ("a.json", "{}", "a.json: must be an object"),
        ("a b.json", "{}", "a b.json: the file's name"),
        ("a.txt", "", "there is no workflow in"),
    ],
)
async def test_the_service_does_not_start_with_a_wrong_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str, reason: str
) -> None:
    """One line names the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFYUI_WORKFLOWS", str(tmp_path))
    (tmp_path / name).write_text(content)

    with pytest.raises(ConfigurationError, match=f"COMFYUI_WORKFLOWS: {reason}"):
        async with connect():
            pass
