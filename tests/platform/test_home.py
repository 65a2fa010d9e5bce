from pathlib import Path

import pytest

from barmill.platform.home import REPO_ROOT, Home


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


def test_an_existing_home_is_closed_to_other_users(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    written = (
        home.control_db,
        home.root / "bars.sqlite-wal",
        home.log / "app.log",
        home.flink / "conf" / "config.yaml",
    )
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        path.chmod(0o644)
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    (home.flink / "link").symlink_to(outside)
    for folder in (home.root, home.log, home.flink, home.flink / "conf"):
        folder.chmod(0o755)
    home.create().make_private()
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    folders = (home.root, home.log, home.flink, home.flink / "conf")
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert outside.stat().st_mode & 0o777 == 0o644


def test_a_public_folder_stays_public(tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    public.chmod(0o1777)
    Home(public).create()
    assert public.stat().st_mode & 0o7777 == 0o1777
