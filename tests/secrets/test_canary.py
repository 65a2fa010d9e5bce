"""The search for a planted secret finds it in every form; or else no other test of secrecy would mean anything."""

import base64
import html
import json
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.support.canary import canary, leaks

SECRET = canary()
FORMS = {
    "plain": SECRET,
    "inside": f"before{SECRET}after",
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "url": quote(SECRET),
    "url in full": quote(SECRET, safe=""),
    "url in small letters": re.sub("%..", lambda escape: escape[0].lower(), quote(SECRET)),
    "url of a form": quote_plus(SECRET),
    "json": json.dumps({"key": SECRET}),
    "json in json": json.dumps({"body": json.dumps({"key": SECRET})}),
    "html": f"<p>{html.escape(SECRET)}</p>",
    "hex": SECRET.encode().hex(),
    "python": repr([SECRET]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_secret_is_found_in_texts_files_and_folders(form: str, tmp_path: Path) -> None:
    text = FORMS[form]
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "log").write_text(f"one\n{text}\nthree")
    assert leaks(SECRET, text)
    assert leaks(SECRET, text.encode())
    (found,) = {leak.split(": ")[0] for leak in leaks(SECRET, tmp_path)}
    assert found == str(folder / "log")
    assert leaks(SECRET, folder / "log")


@pytest.mark.parametrize("before", ["", "k", "ke", "key", "key="])
@pytest.mark.parametrize("after", ["", "&", "&a", "&ab"])
def test_base64_is_found_wherever_in_a_text_the_secret_stands(before: str, after: str) -> None:
    text = f"{before}{SECRET}{after}".encode()
    assert leaks(SECRET, base64.b64encode(text))
    assert leaks(SECRET, base64.urlsafe_b64encode(text))


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    other = canary()
    (tmp_path / "log").write_text(" ".join(FORMS.values()))
    assert leaks(other, *FORMS.values(), tmp_path) == []
    assert leaks(SECRET) == []
