"""Each line of a provider's log is stored once, whatever part of it is returned."""

from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.provider_logs import LEFT_OUT, NOTHING, LogPlace, growth, read_log
from fleek.domain.text import LongText

LONG = "".join(f"step {number} of 400\n" for number in range(400))


def stored(*states: str) -> str:
    """Return what is stored after a provider has returned these states of a log."""
    place, text = NOTHING, ""
    for state in states:
        new = growth(place, state)
        text += new
        place = LogPlace.after(state) if new else place
    return text


@given(st.text(alphabet="ab\r\n█", max_size=2000), st.lists(st.integers(0, 2000), max_size=8))
def test_a_growing_log_is_stored_once(log: str, looks: list[int]) -> None:
    """However often it is polled, also in the middle of a line."""
    states = [log[:end] for end in sorted(looks)]

    assert stored(*states, log) == log


def test_an_older_state_adds_nothing() -> None:
    """A replica may lag behind, and a list has less than the prediction itself."""
    assert stored(LONG, LONG[:500], "", LONG) == LONG


def test_only_the_new_part_of_a_log_without_its_middle_is_added() -> None:
    """It is found by the last characters that are stored."""
    first, second = f"{LONG[:50]}{LEFT_OUT}{LONG[2000:3000]}", LONG[:50] + LEFT_OUT + LONG[2500:]

    assert stored(LONG[:40], first, second) == LONG[:50] + LEFT_OUT + LONG[2000:]


def test_a_missing_part_is_marked() -> None:
    """It grew faster than it was polled."""
    shown = (
        LONG[:500],
        LONG[:500] + LEFT_OUT + LONG[2000:3000],
        LONG[:500] + LEFT_OUT + LONG[5000:],
    )

    assert stored(*shown) == f"{LONG[:500]}{LEFT_OUT}{LONG[2000:3000]}{LEFT_OUT}{LONG[5000:]}"


def test_a_rewritten_line_follows_a_carriage_return() -> None:
    """Some providers show a progress bar as the terminal does: its last state."""
    begin = "loading\n"

    assert stored(f"{begin} 10%|#", f"{begin} 50%|###", f"{begin} 100%|#####\nready\n") == (
        f"{begin} 10%|#\r 50%|###\r 100%|#####\nready\n"
    )


def test_a_different_log_is_appended_whole() -> None:
    """Neither the stored nor the new log is lost."""
    other = "".join(f"shard {number}\n" for number in range(900))

    assert stored(LONG[:900], other) == LONG[:900] + LEFT_OUT + other


def test_any_log_can_be_stored() -> None:
    """Databases cannot store NUL or lone surrogates."""
    assert (
        read_log("a\0b\ud800\r\n█") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}\r\n█"
    )
    assert read_log("") is None
    assert read_log({"logs": "x"}) is None
    assert read_log(LongText(lambda: iter(["begin", "middle", "end"]), 14)) == "begin\nmiddleend"
