"""The reference of commands is what `--help` prints."""

from tools.make_cli_reference import PAGE, cli_reference


def test_the_reference_of_commands_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == cli_reference(), "run: python -m tools.make_cli_reference"
