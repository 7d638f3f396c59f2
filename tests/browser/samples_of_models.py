"""Prompts and schemas for the tests of the web page."""

from typing import Any, Final

HARD_PROMPT: Final = (
    "fourteen 'single' \"double\" `id` $(touch owned) ${HOME} \\ ! 🦊\nsecond line; touch owned"
)
HOSTILE: Final = (
    '<img src=x onerror="window.owned=1"><script>window.owned=1</script>',
    "\u202ereversed\u2066 marks\u202c and \u200bnothing",
    "nospace" * 1000,
    "'\"><svg/onload=window.owned=1>{{7*7}}${7*7}",
)


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def _int(low: int, high: int, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, **more}


def _num(low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, **more}


def _enum(*values: Any, **more: Any) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), **more}


_URI: Final = {"type": "string", "format": "uri"}
_SEED: Final = {"type": "integer", "nullable": True}
_RATIO: Final = _enum(
    "1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21", default="1:1"
)
_FORMAT: Final = _enum("webp", "jpg", "png", default="webp")

_FIELDS: Final[dict[str, dict[str, Any]]] = {  # as the models' pages list them
    "black-forest-labs/flux-schnell": {
        "aspect_ratio": _RATIO,
        "num_outputs": _int(1, 4, default=1),
        "num_inference_steps": _int(1, 4, default=4),
        "seed": _SEED,
        "output_format": _FORMAT,
        "output_quality": _int(0, 100, default=80),
        "disable_safety_checker": {"type": "boolean", "default": False},
        "go_fast": {"type": "boolean", "default": True},
        "megapixels": _enum("1", "0.25", default="1"),
    },
    "black-forest-labs/flux-dev": {
        "image": _URI,
        "prompt_strength": _num(0, 1, default=0.8),
        "guidance": _num(0, 10, default=3),
        "aspect_ratio": _RATIO,
        "seed": _SEED,
    },
    "black-forest-labs/flux-1.1-pro": {
        "width": _int(256, 1440, multipleOf=32),
        "height": _int(256, 1440, multipleOf=32),
        "aspect_ratio": _enum("custom", "1:1", "16:9"),
        "image_prompt": _URI,
        "safety_tolerance": _int(1, 6, default=2),
        "prompt_upsampling": {"type": "boolean"},
    },
    "black-forest-labs/flux-fill-pro": {
        "image": _URI,
        "mask": _URI,
        "steps": _int(15, 50),
        "outpaint": _enum(
            "None",
            "Zoom out 1.5x",
            "Zoom out 2x",
            "Make square",
            "Left outpaint",
            "Right outpaint",
        ),
    },
    "black-forest-labs/flux-kontext-pro": {
        "input_image": _URI,
        "aspect_ratio": _enum("match_input_image", "1:1", "16:9"),
        "output_format": _enum("jpg", "png"),
    },
    "stability-ai/sdxl": {
        "negative_prompt": _text(default=""),
        "image": _URI,
        "mask": _URI,
        "width": _int(64, 2048, default=1024),
        "height": _int(64, 2048, default=1024),
        "num_outputs": _int(1, 4, default=1),
        "scheduler": _enum(
            "DDIM",
            "DPMSolverMultistep",
            "HeunDiscrete",
            "KarrasDPM",
            "K_EULER_ANCESTRAL",
            "K_EULER",
            "PNDM",
            default="K_EULER",
        ),
        "refine": _enum("no_refiner", "expert_ensemble_refiner", "base_image_refiner"),
        "lora_scale": _num(0, 1),
        "seed": _SEED,
        "apply_watermark": {"type": "boolean", "default": True},
        "replicate_weights": _text(),
    },
    "stability-ai/stable-diffusion-3.5-large": {
        "cfg": _num(1, 10, default=4.5),
        "image": _URI,
        "seed": _SEED,
        "prompt_strength": _num(0, 1),
    },
    "ideogram-ai/ideogram-v3-turbo": {
        "style_type": _enum("None", "Auto", "General", "Realistic", "Design"),
        "resolution": _enum("None", *[f"{n}x{n}" for n in range(512, 1600, 64)]),
        "style_reference_images": {"type": "array", "items": _URI},
        "magic_prompt_option": _enum("Auto", "On", "Off"),
    },
    "recraft-ai/recraft-v3": {
        "size": _enum("1024x1024", "1365x1024", "1024x1365", "1536x1024", "1024x1536"),
        "style": _enum("any", "realistic_image", "digital_illustration"),
    },
    "google/imagen-4": {
        "aspect_ratio": _enum("1:1", "9:16", "16:9", "3:4", "4:3"),
        "safety_filter_level": _enum(
            "block_low_and_above", "block_medium_and_above", "block_only_high"
        ),
    },
    "google/nano-banana": {
        "image_input": {"type": "array", "items": _URI, "default": []},
        "output_format": _enum("jpg", "png"),
    },
    "google/veo-3": {
        "image": _URI,
        "duration": {"type": "integer", "enum": [4, 6, 8]},
        "generate_audio": {"type": "boolean", "default": True},
        "resolution": _enum("720p", "1080p"),
    },
    "kwaivgi/kling-v2.1": {
        "start_image": _URI,
        "end_image": _URI,
        "mode": _enum("standard", "pro"),
        "duration": {"type": "integer", "enum": [5, 10]},
    },
    "minimax/video-01": {
        "first_frame_image": _URI,
        "subject_reference": _URI,
        "prompt_optimizer": {"type": "boolean", "default": True},
    },
    "wan-video/wan-2.2-t2v-fast": {
        "num_frames": _int(81, 121),
        "frames_per_second": _int(5, 30),
        "sample_shift": _num(1, 20),
        "lora_weights_transformer": _text(),
    },
    "meta/musicgen": {
        "model_version": _enum("stereo-melody-large", "stereo-large", "melody-large", "large"),
        "input_audio": _URI,
        "duration": {"type": "integer", "default": 8},
        "top_k": {"type": "integer", "default": 250},
        "top_p": {"type": "number", "default": 0},
        "output_format": _enum("wav", "mp3"),
    },
    "minimax/speech-02-hd": {
        "text": _text(),
        "voice_id": _text(),
        "speed": _num(0.5, 2),
        "emotion": _enum("auto", "neutral", "happy", "sad"),
        "english_normalization": {"type": "boolean"},
    },
    "meta/meta-llama-3-8b-instruct": {
        "system_prompt": _text(),
        "max_tokens": {"type": "integer"},
        "temperature": _num(0, 5),
        "stop_sequences": _text(),
        "messages": {"type": "array", "items": {"type": "object"}},
    },
    "tencentarc/gfpgan": {
        "img": _URI,
        "scale": {"type": "number", "default": 2},
        "version": _enum("v1.2", "v1.3", "v1.4", "RestoreFormer"),
    },
    "nightmareai/real-esrgan": {
        "image": _URI,
        "scale": _num(0, 10, default=4),
        "face_enhance": {"type": "boolean", "default": False},
    },
    "lucataco/remove-bg": {"image": _URI},
    "fofr/any-comfyui-workflow": {
        "workflow_json": _text(),
        "input_file": _URI,
        "return_temp_files": {"type": "boolean"},
        "options": {"type": "object"},
    },
}


def _wrapped(name: str, fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a schema with its choices as references, as Replicate's OpenAPI has them."""
    definitions = {
        key: {"title": key, **{k: v for k, v in one.items() if k != "default"}}
        for key, one in fields.items()
        if "enum" in one
    }
    properties = {
        key: {
            "allOf": [{"$ref": f"#/$defs/{key}"}],
            "x-order": at,
            **({"default": one["default"]} if "default" in one else {}),
        }
        if key in definitions
        else {"title": key.replace("_", " ").title(), "x-order": at, **one}
        for at, (key, one) in enumerate(fields.items())
    }
    required = [key for key in fields if key in {"img", "mask", "text"}]
    return {
        "type": "object",
        "title": name,
        "properties": properties,
        "required": required,
        "$defs": definitions,
    }


SCHEMAS: Final = {name: _wrapped(name, fields) for name, fields in _FIELDS.items()}
