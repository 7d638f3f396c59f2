"""Prices: what a prediction will cost, and what it has cost."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.money import read_usd, usd
from fleek.domain.prices import FREE, Listed, Price, PriceList, Unit, read_figure

RUN = {"predict_time": 2.5, "total_time": 3.0}
ENDED_EARLY = {"total_time": 3.0}


def price(assumed: Mapping[Unit, str] | None = None, **units: str) -> Price:
    """Return a price by the names of its units."""
    return Price(
        units={Unit(name): Decimal(amount) for name, amount in units.items()},
        assumed={unit: Decimal(number) for unit, number in (assumed or {}).items()},
    )


def test_amounts_are_decimal_numbers() -> None:
    """What is written is what was read."""
    cases = {"0": 0, "0.003": 3000, "12.5": 12_500_000, "0.000001": 1, "1000000000": 10**15}

    for text, micros in cases.items():
        assert read_usd(text) == micros
        assert usd(micros) == text
    assert usd(-1_500_000) == "-1.5"


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1e3", "0.0000001", "1000000000.1", "\uff11", "1.2.3", ".", "nan", "1,5", " 1"],
)
def test_other_texts_are_no_amounts(text: str) -> None:
    """Nothing is guessed about money."""
    with pytest.raises(ValueError, match=r"must|large"):
        read_usd(text)


@pytest.mark.parametrize(
    ("found", "parameters", "micros"),
    [
        (price(prediction="0.01"), {}, 10_000),
        (price(output="0.003"), {}, 3000),
        (price(output="0.003"), {"num_outputs": 4}, 12_000),
        (price(output="0.003"), {"n": "4"}, 12_000),
        (price(output="0.003"), {"n": True}, 3000),
        (price(output="0.003"), {"n": -4}, 3000),
        (price(megapixel="0.003"), {}, 3000),
        (price(megapixel="0.003"), {"width": 1024, "height": 1024, "num_images": 2}, 6292),
        (price(megapixel="0.003"), {"size": "2000x1000"}, 6000),
        (price(megapixel="0.003"), {"image_size": {"width": 2000, "height": 1000}}, 6000),
        (price(megapixel="0.003"), {"image_size": {"size": "2000x1000"}}, 3000),
        (price(megapixel="0.003"), {"megapixels": "0.25"}, 750),
        (price({Unit.RUN_SECOND: "12"}, run_second="0.001"), {}, 12_000),
        (price(run_second="0.001"), {}, None),
        (price(media_second="0.1"), {"seconds": "8"}, 800_000),
        (price(media_second="0.1"), {"duration": "5s", "n": 2}, 1_000_000),
        (price({Unit.MEDIA_SECOND: "4"}, media_second="0.1"), {}, 400_000),
        (price({Unit.OUTPUT_TOKEN: "1056"}, output_token="0.00004"), {}, 42_240),
        (price(prediction="0.000001", token="0.1"), {}, None),
        (price(output="1"), {"n": 10**30}, 1_000_000),
        (price(output="1"), {"n": 10**12}, 10**15),  # never more than fits
        (FREE, {}, 0),
    ],
)
def test_an_estimate_counts_what_was_asked_for(
    found: Price, parameters: dict[str, Any], micros: int | None
) -> None:
    """Quantities come from the request, else from what the price assumes."""
    assert found.estimate(parameters) == micros


@pytest.mark.parametrize(
    ("found", "metrics", "outputs", "micros"),
    [
        (price(prediction="0.01"), {}, 1, 10_000),
        (price(prediction="0.01"), RUN, None, 10_000),
        (price(prediction="0.01"), ENDED_EARLY, None, 0),
        (price(prediction="0.01"), {}, None, None),
        (price(output="0.003"), {}, 2, 6000),
        (price(output="0.003"), {"image_count": 3}, 2, 9000),
        (price(output="0.003"), RUN, None, 0),
        (price(output="0.003"), {}, None, None),
        (price(run_second="0.001"), RUN, 1, 2500),
        (price(run_second="0.001"), RUN, None, 2500),
        (price(run_second="0.0001"), {"predict_time": 0.000001}, 1, 1),
        (price(run_second="0.001"), {}, 1, None),
        (price(prediction="0.01", run_second="0.001"), RUN, 1, 12_500),
        (price(megapixel="0.003"), {"size": "2000x1000"}, 1, 6000),
        (price(media_second="0.1"), {"video_output_duration_seconds": 5.5}, 1, 550_000),
        (price(media_second="0.1"), {"seconds": "4"}, None, 0),
        (price(input_token="0.000005", output_token="0.00004"), {"input_tokens": 20}, 1, None),
        (
            price(input_token="0.000005", output_token="0.00004"),
            {"input_tokens": 20, "output_tokens": 1000},
            1,
            40_100,
        ),
        (price(token="0.00001"), {"total_tokens": 7}, 1, 70),
        (price(token="0.00001"), {"token_input_count": 3, "token_output_count": 4}, 1, 70),
    ],
)
def test_the_final_price_counts_what_the_answer_says(
    found: Price, metrics: dict[str, Any], outputs: int | None, micros: int | None
) -> None:
    """What it does not say is not invented: the estimate counts then."""
    assert found.cost({"n": 1}, metrics, outputs=outputs) == micros


@given(st.dictionaries(st.sampled_from(["n", "size", "width", "height", "seconds"]), st.text()))
def test_any_parameters_have_an_estimate(parameters: dict[str, Any]) -> None:
    """Callers send what they like."""
    found = price(output="0.1", megapixel="0.1").estimate(parameters)

    assert found is not None
    assert found >= 0


def test_the_first_line_that_fits_counts() -> None:
    """A model's price is that of its versions, too; patterns stand for many models."""
    cheap, dear = price(output="0.01"), price(output="0.1")
    prices = PriceList([Listed("replicate", "acme/fast", cheap)])
    prices += PriceList([Listed("replicate", "acme/*", dear), Listed("cog", "*", FREE)])

    assert prices.find("replicate", "acme/fast") is cheap
    assert prices.find("replicate", "acme/fast:0123") is cheap
    assert prices.find("replicate", "acme/slow") is dear
    assert prices.find("replicate", "other/fast") is None
    assert prices.estimate("fal", "acme/fast", {}) is None
    assert prices.estimate("cog", "anything", {}) == 0


def test_a_figure_of_a_provider_is_rounded_up() -> None:
    """It is a number of US dollars, as JSON or a header has it."""
    cases = {0.0000001: 1, "0.0034567": 3457, 2: 2_000_000, "4.2e-05": 42, 0: 0}

    for value, micros in cases.items():
        assert read_figure(value) == micros
    for value in (None, True, -1, "free", float("nan"), 10**7, "1e99", [1]):
        assert read_figure(value) is None
