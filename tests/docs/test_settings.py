"""Every setting is described in the reference of settings."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from barmill.auth.settings import OidcSettings, SignInSettings
from barmill.ingest.connection.guard import FeedsAccess
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.kafka_settings import KafkaSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"


@pytest.mark.parametrize("model", [FeedSettings, SignInSettings, OidcSettings, KafkaSettings, FeedsAccess])
def test_every_field_of_a_settings_file_is_described(model: type[BaseModel]) -> None:
    described = set(re.findall(r"`([a-z_]+)`", PAGE.read_text("utf-8")))
    assert set(model.model_fields) - described == set()
