"""Files in which an admin provides settings and secrets.

Decision 38 in docs/explanation/decisions says why pydantic-settings is not used.
"""

import os
import stat
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from barmill.platform.errors import ControlError
from barmill.platform.home import Home


class SettingsError(ControlError):
    """The settings are invalid. Correct what the message names and start again."""


class SettingsFile(BaseModel):
    """A settings file of a home, named `file_name`. Missing values, or a missing file, mean the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_name: ClassVar[str]

    @classmethod
    def read(cls, home: Home) -> Self:
        """Read the settings of a home. Raise SettingsError if the file is invalid."""
        path = home.root / cls.file_name
        if not path.exists():
            return cls()
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except ValidationError as error:
            detail = error.errors()[0]
            location = ".".join(str(part) for part in detail["loc"]) or "the file"
            raise SettingsError(f"{path}: {location}: {detail['msg']}; correct it or delete the file.") from error


_MAX_BYTES = 16 * 1024


def read_secret_file(path: Path, label: str, error: type[ControlError]) -> str:
    """Return the content of a secret file, stripped, at most 16 KiB.

    Raise `error` if the file cannot be read, or all users have access to it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_BYTES)
    except OSError as problem:
        raise error(f"The {label} file {path} cannot be read: {problem.strerror}.") from problem
    if mode & 0o007:
        raise error(f"The {label} file {path} is accessible to all users (mode {mode:04o}); run: chmod o= {path}")
    return text.decode("utf-8", "replace").strip()
