"""Texts are in plain English, without the words of a list that were used in private senses or read as translated."""

import re
from pathlib import Path

import pytest

from barmill.platform.home import REPO_ROOT

PHRASES = (
    *("anew", "somebody", "whoever", "nobody", "stands", "stood", "mend", "mends", "mended", "desk", "lane", "lanes"),
    *("crew", "talks", "by itself", "of its own", "of their own", "as one likes", "goes on", "go on", "told"),
    *("at the door", "way in for", "by the word of", "stops nothing", "with none idle", "as it says", "in vain"),
    *("what is more", "of no use", "leads nowhere", "leads on", "broke off", "broke the connection off"),
    *("asked too often", "so it is with", "is asked again", "in the making", "under way", "at work on", "put aside"),
    *("as it had said", "speak for", "stand for", "nor any to", "one and all", "as it likes", "it is no wonder"),
)
_BANNED = re.compile(rf"\b({'|'.join(PHRASES)})\b", re.IGNORECASE)
# The name of a Flink state in savepoints of earlier versions, and of a system user.
_KEPT = {"flink_jobs/operators.py": '"told"', "tests/cluster/test_cluster.py": '"nobody"'}
_FOLDERS = (
    *("src", "control", "web", "views", "cli", "pages", "flink_jobs"),
    *("benchmarks", "tools", "docs", "deploy", "tests"),
)
_SUFFIXES = {".py", ".md", ".js", ".css", ".html", ".yml", ".java", ".toml", ".sh"}


def _texts() -> list[Path]:
    inside = (path for folder in _FOLDERS for path in (REPO_ROOT / folder).rglob("*") if path.suffix in _SUFFIXES)
    beside = (path for path in REPO_ROOT.iterdir() if path.is_file() and path.suffix in {".py", ".md", ".toml", ".yml"})
    listed = [
        *inside,
        *beside,
        REPO_ROOT / "barmill",
        REPO_ROOT / "Dockerfile",
        REPO_ROOT / ".streamlit" / "config.toml",
    ]
    return [path for path in listed if path.name not in ("CHANGELOG.md", Path(__file__).name)]


def test_no_text_has_a_banned_phrase() -> None:
    found = []
    for path in _texts():
        name = str(path.relative_to(REPO_ROOT))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if match := _BANNED.search(line.replace(_KEPT.get(name, "\0"), "")):
                found.append(f"{name}:{number}: {match[0]}")
    assert found == []


@pytest.mark.parametrize("text", ["It goes on.", "Nobody can", "a lane of its own", "It broke off."])
def test_a_banned_phrase_is_found(text: str) -> None:
    assert _BANNED.search(text)


# A string after the parenthesis that should enclose it is a separate statement, which has no effect.
_CUT_OFF_TEXT = re.compile(r"^ *\)\n +[rf]?\"(?!\"\")", re.MULTILINE)


def test_no_text_is_cut_off_by_a_parenthesis() -> None:
    texts = ((path, path.read_text("utf-8")) for path in _texts() if path.suffix == ".py")
    assert [f"{path}: {match[0]}" for path, text in texts if (match := _CUT_OFF_TEXT.search(text))] == []


def test_a_text_that_a_parenthesis_cuts_off_is_found() -> None:
    assert _CUT_OFF_TEXT.search('    return (\n        "one"\n    )\n    " two."\n')
