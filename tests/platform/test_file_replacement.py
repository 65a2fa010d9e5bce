from pathlib import Path
from stat import S_IMODE

import pytest

from barmill.platform import file_replacement
from barmill.platform.file_replacement import PRIVATE_MODE, replace_file, replacing


def test_a_replaced_file_has_the_new_content_and_no_other_file_remains(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("a longer earlier content")
    replace_file(path, "Zürich\n")
    assert path.read_bytes() == "Zürich\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_the_earlier_content_is_visible_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("earlier")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "earlier"
    assert path.read_text() == "new"


def test_a_failure_leaves_the_earlier_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("earlier")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_half()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with replacing(path) as first, replacing(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_private_even_if_the_earlier_one_was_not(tmp_path: Path) -> None:
    path = tmp_path / "webhook"
    path.touch(0o644)
    replace_file(path, "secret", mode=PRIVATE_MODE)
    assert S_IMODE(path.stat().st_mode) == PRIVATE_MODE


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_is_synced_with_its_content_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path, synced = tmp_path / "keys.json", []

    def sync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").read_text(), path.exists()))

    monkeypatch.setattr(file_replacement, "sync", sync)
    replace_file(path, b"keys", durable=durable)
    assert synced == [("keys", False)] * durable
