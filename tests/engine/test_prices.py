"""The price list: the one of the package, and the one of an operator."""

from pathlib import Path

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.engine.prices import load_prices

SCHNELL = "black-forest-labs/flux-schnell"
OWN = """
[hardware.replicate]
gpu-own = "0.002"

[[price]]
provider = "replicate"
model = "black-forest-labs/*"
output = 0.5

[[price]]
provider = "replicate"
model = "acme/slow"
hardware = "gpu-own"
assume = { run_second = 10 }

[[price]]
provider = "replicate"
model = "acme/fast"
hardware = "gpu-t4"
assume = { run_second = 4 }
"""


def test_the_package_has_prices() -> None:
    """Those of models that many use; what runs on one's own hardware is free."""
    prices = load_prices(None)

    assert prices.estimate("replicate", SCHNELL, {"num_outputs": 2}) == 6000
    assert prices.estimate("placeholder", "any/model", {}) == 0
    assert prices.estimate("replicate", "nobody/knows", {}) is None


def test_the_prices_of_an_operator_come_first(tmp_path: Path) -> None:
    """Hardware of the package's list can be used."""
    path = tmp_path / "prices.toml"
    path.write_text(OWN)

    prices = load_prices(path)

    assert prices.estimate("replicate", SCHNELL, {}) == 500_000
    assert prices.estimate("replicate", "acme/slow", {}) == 20_000
    assert prices.estimate("replicate", "acme/fast", {}) == 900
    assert prices.estimate("replicate", "google/imagen-4", {}) == 40_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[[price]\n", "line 1"),
        ("[[prices]]\n", "prices is not known"),
        ("price = 1", "must be a list"),
        ('[[price]]\nmodel = "a/b"\noutput = 1', "price 1: provider is missing"),
        ('[[price]]\nprovider = "x"\nmodel = "a/b"', "names no unit"),
        ('[[price]]\nprovider = "x"\nmodel = "a/b"\nimage = 1', "image is not known"),
        ('[[price]]\nprovider = "x"\nmodel = "a/b"\noutput = "1$"', "output: must be a decimal"),
        ('[[price]]\nprovider = "x"\nmodel = "a/b"\noutput = -1', "output: must be a decimal"),
        ('[[price]]\nprovider = "x"\nmodel = "a/b"\noutput = true', "output must be a decimal"),
        ('[[price]]\nprovider = "x"\nmodel = "a/b"\nhardware = "gpu-t4"', "x has no gpu-t4"),
        (
            '[[price]]\nprovider = "x"\nmodel = "a"\noutput = 1\nassume = {pixel = 1}',
            "pixel is no unit",
        ),
        ("\xff", "utf-8"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, content: str, reason: str) -> None:
    """In one line that names the setting and the place."""
    path = tmp_path / "prices.toml"
    path.write_bytes(content.encode("latin-1"))

    with pytest.raises(ConfigurationError, match=reason) as caught:
        load_prices(path)

    assert str(caught.value).startswith("PRICES_FILE: ")


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    """It was meant to be there."""
    with pytest.raises(ConfigurationError, match="No such file"):
        load_prices(tmp_path / "none.toml")
