"""Workflow templates for tests, and a folder of them."""

import json
from pathlib import Path
from typing import Any, Final

TXT2IMG: Final[dict[str, Any]] = {
    "description": "Stable Diffusion, text to image",
    "output": "image",
    "slots": {
        "prompt": "Positive.text",
        "negative_prompt": "7.text",
        "seed": "3.seed",
        "steps": {"at": "3.steps", "minimum": 1, "maximum": 50},
        "cfg": "3.cfg",
        "sampler": {"at": "3.sampler_name", "enum": ["euler", "heun"]},
        "num_outputs": "5.batch_size",
    },
    "workflow": {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 18446744073709551615,
                "steps": 20,
                "cfg": 8,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "4": {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"},
        },
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 512, "height": 512, "batch_size": 1},
        },
        "6": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": "a cat", "clip": ["4", 1]},
            "_meta": {"title": "Positive"},
        },
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]},
        },
    },
}
INVERT: Final[dict[str, Any]] = {
    "slots": {"image": {"at": "1.image", "required": True}},
    "workflow": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    },
}


def workflow_folder(folder: Path) -> Path:
    """Return a folder with two templates."""
    (made := folder / "workflows").mkdir(exist_ok=True)
    for name, template in (("invert", INVERT), ("a-txt2img", TXT2IMG)):
        (made / f"{name}.json").write_text(json.dumps(template))
    return made
