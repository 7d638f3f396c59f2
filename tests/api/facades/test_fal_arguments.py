"""fal's common arguments become parameters as the model calls them."""

from typing import Any, Final

import pytest

from fleek.api.facades.fal.arguments import translate

FILES: Final = "https://fleek.test/fal/files/"
ID: Final = "0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"
ANY: Final[dict[str, Any]] = {"type": "string"}


@pytest.mark.parametrize(
    ("known", "given", "made", "ignored"),
    [
        (["num_outputs"], {"num_images": 2}, {"num_outputs": 2}, []),
        (["num_images"], {"num_images": 2}, {"num_images": 2}, []),
        (["seed"], {"num_images": 1}, {}, []),
        (["seed"], {"num_images": 2}, {"num_images": 2}, []),  # the model's schema refuses it
        (["width", "height"], {"image_size": "portrait_4_3"}, {"width": 768, "height": 1024}, []),
        (
            ["width", "height"],
            {"image_size": {"width": 8, "height": 9}},
            {"width": 8, "height": 9},
            [],
        ),
        (["size"], {"image_size": "square_hd"}, {"size": "1024x1024"}, []),
        (["aspect_ratio"], {"image_size": "landscape_16_9"}, {"aspect_ratio": "16:9"}, []),
        (["image_size"], {"image_size": "square"}, {"image_size": "square"}, []),
        (["seed"], {"image_size": "square"}, {"image_size": "square"}, []),
        (["width", "height"], {"image_size": "huge"}, {"image_size": "huge"}, []),
        (["image"], {"image_url": "https://a.test/b"}, {"image": "https://a.test/b"}, []),
        (["input_image"], {"image_url": f"{FILES}{ID}"}, {"input_image": f"upload:{ID}"}, []),
        (["images"], {"image_urls": [f"{FILES}{ID}"]}, {"images": [f"upload:{ID}"]}, []),
        (["mask"], {"mask_url": "data:,"}, {"mask": "data:,"}, []),
        (["seed"], {"sync_mode": True, "acceleration": "high"}, {}, ["sync_mode", "acceleration"]),
        (["acceleration"], {"acceleration": "high"}, {"acceleration": "high"}, []),
        ([], {"num_images": 2, "sync_mode": True}, {"num_images": 2, "sync_mode": True}, []),
    ],
)
def test_arguments_are_translated(
    known: list[str], given: dict[str, Any], made: dict[str, Any], ignored: list[str]
) -> None:
    """What the model has under the same name stays; a model of which nothing is known gets all."""
    schema = {"properties": dict.fromkeys(known, ANY)} if known else None

    translation = translate(given, schema, files=FILES)

    assert translation.parameters == made
    assert sorted(translation.ignored) == sorted(ignored)
