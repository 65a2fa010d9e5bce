"""What becomes of each name in a pasted list."""

import pytest

from barmill.ingest.instruments.names import NameOutcome, Outcome, evaluate_names, parse_names, report_text

NOW = {"OAKR/USD": True, "GLFN/USD": False, "Zeff": True, "ZEFF": True}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("\n  \n,;\t", []),
        ("OAKR/USD", [(1, "OAKR/USD")]),
        ("OAKR/USD\r\n\n GLFN/USD \n", [(1, "OAKR/USD"), (3, "GLFN/USD")]),
        ('"A", B;C\tD\nE', [(1, "A"), (1, "B"), (1, "C"), (1, "D"), (2, "E")]),
        ("Gold Spot", [(1, "Gold Spot")]),
    ],
)
def test_names_are_found_between_what_people_put_between_them(text: str, names: list[tuple[int, str]]) -> None:
    assert parse_names(text) == names


def test_every_name_gets_its_line() -> None:
    pasted = "OAKR/USD\nGLFN/USD\noakr/usd\nNOPE\nzeff\n" + "x" * 65 + "\nA\x07B\nglfn/usd"
    report = evaluate_names(parse_names(pasted), NOW, enable=True)
    assert report == (
        NameOutcome(1, "OAKR/USD", "OAKR/USD", Outcome.ALREADY_ENABLED),
        NameOutcome(2, "GLFN/USD", "GLFN/USD", Outcome.ENABLED),
        NameOutcome(3, "oakr/usd", "OAKR/USD", Outcome.DUPLICATE),
        NameOutcome(4, "NOPE", None, Outcome.UNKNOWN),
        NameOutcome(5, "zeff", None, Outcome.UNKNOWN),  # two instruments have this name but for capitals
        NameOutcome(6, "x" * 65, None, Outcome.NOT_A_NAME),
        NameOutcome(7, "A\x07B", None, Outcome.NOT_A_NAME),
        NameOutcome(8, "glfn/usd", "GLFN/USD", Outcome.DUPLICATE),
    )
    assert report_text(report) == "1 enabled, 1 already enabled, 2 duplicate, 2 unknown, 2 not a name"


def test_disabling_reads_the_same_names_the_other_way_round() -> None:
    report = evaluate_names(parse_names("OAKR/USD, GLFN/USD"), NOW, enable=False)
    assert [line.outcome for line in report] == [Outcome.DISABLED, Outcome.ALREADY_DISABLED]


def test_a_spelling_that_is_in_the_catalogue_is_never_taken_for_another() -> None:
    assert [line.instrument for line in evaluate_names(parse_names("ZEFF, Zeff"), NOW, enable=True)] == ["ZEFF", "Zeff"]


def test_nothing_in_words() -> None:
    assert report_text(()) == "no names"
