"""Text can be read in both looks: contrast worked out from the theme's colours and our own style sheets."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.platform.home import REPO_ROOT

TEXT, MARK = 4.5, 3.0  # what WCAG 2.2 AA asks of text, and of signs that mean something
THEME = tomllib.loads((REPO_ROOT / ".streamlit" / "config.toml").read_text())["theme"]
SHEETS = sorted((REPO_ROOT / "src" / "barmill" / "charts" / "browser").rglob("*.css"))
RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
LOOKS = ["light", "dark"]


def linear(channel: int) -> float:
    share = channel / 255
    return share / 12.92 if share <= 0.04045 else float(((share + 0.055) / 1.055) ** 2.4)


def channels(color: str) -> list[int]:
    return [int(color[place : place + 2], 16) for place in (1, 3, 5)]


def luminance(color: str) -> float:
    red, green, blue = map(linear, channels(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(color: str, other: str) -> float:
    dark, light = sorted((luminance(color), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def faded(color: str, back: str, opacity: float) -> str:
    mixed = (
        round(over * opacity + under * (1 - opacity))
        for over, under in zip(channels(color), channels(back), strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def backgrounds(look: str) -> dict[str, str]:
    theme = THEME[look]
    return {
        "page": theme["backgroundColor"],
        "raised": theme["secondaryBackgroundColor"],
        "sidebar": theme["sidebar"]["backgroundColor"],
    }


def setting(variable: str) -> str:
    """Return what the theme calls a variable of Streamlit's: --st-gray-text-color is grayTextColor."""
    first, *others = variable.removeprefix("--st-").split("-")
    return first + "".join(other.capitalize() for other in others)


def rules() -> Iterator[tuple[str, str, str]]:
    for sheet in SHEETS:
        for selector, body in RULE.findall(sheet.read_text()):
            yield sheet.name, " ".join(selector.split()), body


def too_faint(color: str, look: str, least: float, what: str) -> list[str]:
    found = ((place, contrast(color, back)) for place, back in backgrounds(look).items())
    return [f"{what} on the {place}: {ratio:.2f}" for place, ratio in found if ratio < least]


def test_black_on_white_has_the_contrast_everybody_knows() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert faded("#000000", "#ffffff", 0.5) == "#808080"


@pytest.mark.parametrize("look", LOOKS)
def test_every_text_colour_of_the_theme_reads_on_every_background(look: str) -> None:
    names = [name for name in THEME[look] if name.endswith(("textColor", "TextColor")) or name == "primaryColor"]
    assert len(names) >= 7
    assert [line for name in names for line in too_faint(THEME[look][name], look, TEXT, name)] == []


@pytest.mark.parametrize("look", LOOKS)
def test_our_components_take_only_colours_that_read(look: str) -> None:
    faint, seen = list[str](), 0
    for sheet, selector, body in rules():
        for variable in re.findall(r"(?<![\w-])color: var\((--st-[\w-]+)\)", body):
            seen += 1
            least = MARK if "::before" in selector else TEXT
            assert setting(variable) in THEME[look], f"{sheet}: the theme does not set {variable}"
            faint += too_faint(THEME[look][setting(variable)], look, least, f"{sheet} {selector}")
        for opacity in map(float, re.findall(r"(?<![\w-])opacity: ([\d.]+)", body)):
            for place, back in backgrounds(look).items():
                if opacity and (ratio := contrast(faded(THEME[look]["textColor"], back, opacity), back)) < TEXT:
                    faint.append(f"{sheet} {selector} on the {place}: {ratio:.2f}")
    assert seen >= 20
    assert faint == []


@pytest.mark.parametrize("look", LOOKS)
def test_lines_and_marks_stand_out(look: str) -> None:
    colors = {"blueColor", "orangeColor", "greenColor", "redColor", "violetColor", "grayColor"}
    assert [line for name in sorted(colors) for line in too_faint(THEME[look][name], look, MARK, name)] == []


@pytest.mark.parametrize("look", LOOKS)
def test_the_sign_in_pages_read(look: str) -> None:
    sheet = Path(REPO_ROOT / "web" / "pages" / "style.css").read_text()
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", sheet)
    colors = {name: pair[LOOKS.index(look)] for name, *pair in pairs}
    shown = [(text, back) for text in ("text", "quiet", "red", "blue") for back in ("card", "back")]
    for text, back in (*shown, ("on-blue", "blue")):
        assert contrast(colors[text], colors[back]) >= TEXT, (text, back)
    assert contrast(colors["field"], colors["card"]) >= MARK
