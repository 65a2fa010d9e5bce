"""Settings that an admin keeps as a JSON file in the home."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from control.errors import ControlError
from control.home import Home


class SettingsError(ControlError):
    """The settings cannot be used; mend what the sentence names and start again."""


class SettingsFile(BaseModel):
    """A settings file of a home, `file_name`; what it does not say, or a home without it, has the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_name: ClassVar[str]

    @classmethod
    def read(cls, home: Home) -> Self:
        """Read the settings of a home; raise SettingsError where the file cannot be used."""
        path = home.root / cls.file_name
        if not path.exists():
            return cls()
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise SettingsError(f"{path}: {where}: {first['msg']}; mend it or delete the file.") from error
