"""The image, built once for all tests that run it."""

from collections.abc import Iterator

import pytest

from containers.image import Image, build
from redisserver import redis, redis_server  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def built(_full_suite: None, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return the image."""
    return build(tmp_path_factory.mktemp("image"))


@pytest.fixture
def image(built: Image) -> Iterator[Image]:
    """Return the image with an empty folder for data; tests must not change anything else."""
    built.clear()
    before = built.files()
    yield built
    assert built.files() == before
    assert not built.home.exists()
