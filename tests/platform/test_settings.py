"""The feed's settings: what a file may say, and one sentence for what it may not."""

import pytest

from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsError


def test_a_home_without_a_file_has_the_usual_settings(home: Home) -> None:
    assert FeedSettings.read(home) == FeedSettings()
    assert FeedSettings().exchange_zone == "UTC"


def test_a_file_changes_what_it_says(home: Home) -> None:
    (home.root / FeedSettings.file_name).write_text('{"exchange_zone": "America/New_York"}')
    assert FeedSettings.read(home) == FeedSettings(exchange_zone="America/New_York")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"exchange_zone": "Mars/Olympus"}', "exchange_zone: .*America/New_York"),
        ('{"keep_days": 0}', "keep_days: "),
        ('{"keep": 1}', "keep: "),
        ("{", "the file: "),
    ],
)
def test_what_a_file_may_not_say_is_one_sentence(home: Home, text: str, where: str) -> None:
    (home.root / FeedSettings.file_name).write_text(text)
    with pytest.raises(SettingsError, match=rf"feed\.json: {where}.*; correct it or delete the file\."):
        FeedSettings.read(home)
