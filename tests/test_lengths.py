"""The limits of functions and files, which `make lint` checks."""

from scripts.lengths import LONGEST_FILE, LONGEST_FUNCTION, main, too_long


def function(lines: int) -> str:
    """Return the code of a function of this length."""
    return "def long() -> None:\n" + "    pass\n" * (lines - 1)


def test_no_file_or_function_is_too_long_without_a_reason() -> None:
    """Nor is a reason left that nothing needs."""
    assert main() == 0


def test_the_first_line_too_many_is_found() -> None:
    """Of a function, also one in a class, and of a file."""
    method = "class One:\n" + function(LONGEST_FUNCTION + 1).replace("\n", "\n    ").replace(
        "def", "    def", 1
    )

    assert not [*too_long("a.py", function(LONGEST_FUNCTION))]
    assert [*too_long("a.py", method)] == [("a.py: long", LONGEST_FUNCTION + 1)]
    assert not [*too_long("a.py", "pass\n" * LONGEST_FILE)]
    assert [*too_long("a.py", "pass\n" * (LONGEST_FILE + 1))] == [("a.py", LONGEST_FILE + 1)]
