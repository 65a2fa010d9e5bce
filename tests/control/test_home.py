from pathlib import Path

import pytest

from control.home import REPO_ROOT, Home


def test_the_home_is_var_beside_the_code_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BARMILL_HOME", raising=False)
    assert Home.find().root == REPO_ROOT / "var"
    monkeypatch.setenv("BARMILL_HOME", str(tmp_path / "elsewhere"))
    assert Home.find().root == tmp_path / "elsewhere"
    assert (REPO_ROOT / "barmill").is_file()


def test_a_relative_home_stays_where_it_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home(Path("here"))
    monkeypatch.chdir("/")
    assert home.root == tmp_path / "here"


def test_create_makes_private_folders_and_closes_an_open_keys_folder(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    home.keys.mkdir(parents=True)
    home.keys.chmod(0o755)
    home.create().create()
    folders = (home.keys, home.log, home.run, home.flink, home.market)
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
