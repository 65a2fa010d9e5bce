"""What the documentation refers to exists: pages, headings, pictures, paths of code, modules, commands, options."""

import argparse
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cli.main import COMMANDS, CONTAINER_COMMANDS, build_parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ALL = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
_FENCE = re.compile(r"^(```+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
# A path of code, in backticks or in a block of code: with a folder in it, or an ending that only files of ours have.
_FOLDERS = r"(?:\.ci|benchmarks|cli|control|deploy|docs|flink_jobs|pages|src|tests|tools|views|web)"
_CODE = re.compile(rf"`({_FOLDERS}/[\w./-]*)`|`(\w+\.(?:py|toml|in|lock))`")
_CODE_IN_BLOCK = re.compile(rf"(?<![\w./-]){_FOLDERS}/[\w./-]*\w")
_MODULE = re.compile(r"python -m ((?:benchmarks|cli|control|tests|tools|web)[\w.]*)")
_COMMAND = re.compile(r"\./barmill((?: +[^\s`#|()<>'\"]+)*)")


def _text(page: Path) -> str:
    """Return a page without its blocks of code."""
    return _FENCE.sub("", page.read_text("utf-8"))


@cache
def _anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, made as GitHub and the site make them."""
    headings = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", each) for each in _HEADING.findall(_text(page)))
    return frozenset(re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings)


def _broken(page: Path) -> Iterator[str]:
    for target in _LINK.findall(_text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        if not found.exists():
            yield f"{target}: no such file"
        elif page.is_relative_to(DOCS) and not found.is_relative_to(DOCS):
            yield f"{target}: not on the site, which has only docs/; write the path as code"
        elif anchor and anchor not in _anchors(found):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert list(_broken(page)) == []


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_of_code_exists(page: Path) -> None:
    named = {path or name for path, name in _CODE.findall(_text(page))}
    for block in _FENCE.finditer(page.read_text("utf-8")):
        named.update(_CODE_IN_BLOCK.findall(block[0]))
    named.update(module.replace(".", "/") for module in _MODULE.findall(page.read_text("utf-8")))
    there = {path for path in named if (ROOT / path).exists() or (ROOT / f"{path}.py").exists()}
    assert {path for path in named - there if "NAME" not in path} == set()


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands below a command; empty if there are none."""
    return next(
        (dict(action.choices) for action in parser._actions if isinstance(action, argparse._SubParsersAction)), {}
    )


def _wrong_commands(text: str) -> Iterator[str]:
    """Yield what the parser of the command line does not know in the commands of a text."""
    for found in _COMMAND.finditer(text):
        parser, words = _parser(), found[1].split()
        while words and (below := _actions(parser)) and not words[0].startswith("-") and words[0].strip(".,;:"):
            if (word := words.pop(0).strip(".,;:")) not in below:
                yield f"./barmill{found[1]}: no command {word}"
                break
            parser = below[word]
        else:
            known = {name for action in parser._actions for name in action.option_strings}
            for word in words:
                if word.startswith("--") and word.partition("=")[0].strip(".,;:") not in known:
                    yield f"./barmill{found[1]}: no option {word}"


@cache
def _parser() -> argparse.ArgumentParser:
    return build_parser({*COMMANDS, *CONTAINER_COMMANDS})[0]


@pytest.mark.parametrize("page", [*ALL, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_exists(page: Path) -> None:
    assert list(_wrong_commands(page.read_text("utf-8"))) == []


def test_a_command_or_option_that_does_not_exist_is_found() -> None:
    text = "`./barmill job stop bars --wait`, `./barmill jobs`, `./barmill job halt x`, `./barmill up --port=1 --fast`."
    assert list(_wrong_commands(text)) == [
        "./barmill jobs: no command jobs",
        "./barmill job halt x: no command halt",
        "./barmill up --port=1 --fast: no option --fast",
    ]


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading\n\n[a](gone.md) [b](#a-heading) [c](#gone) [d](https://example.com)\n")
    assert list(_broken(page)) == ["gone.md: no such file", "#gone: no such heading"]


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    def pages(nav: object) -> Iterator[str]:
        match nav:
            case str():
                yield nav
            case dict():
                for item in nav.values():
                    yield from pages(item)
            case list():
                for item in nav:
                    yield from pages(item)

    listed = list(pages(tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_every_decision_is_in_the_index_and_numbered_without_a_hole() -> None:
    folder = DOCS / "explanation" / "decisions"
    names = sorted(page.name for page in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "index.md").read_text("utf-8")) == names
