"""`memstore.toml`: memories by name, so that addresses and passwords are written down once.

    [profiles.lab]
    neo4j_uri = "bolt://graph.lab:7687"
    neo4j_user = "memstore"
    neo4j_password_file = "~/.config/memstore/lab"    # or neo4j_password_env = "LAB_PASSWORD"
    neo4j_database = "neo4j"
    milvus_uri = "http://vectors.lab:19530"
    namespace = "arithmetic"

    [profiles.small]
    memory = "memories/small"                         # a folder

Looked for in the working folder, in every folder above it, and last in the user's configuration folder; of two
profiles with one name the nearer one counts. Relative paths begin at the file's own folder.

No message of this module quotes a value from the file: it may be a secret.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from memstore.errors import LocationError

FILE = "memstore.toml"
ENVIRONMENT = "env"
"""The name of the memory that the environment describes; no profile may take it."""


class Profile(BaseModel):
    """What a profile may say: a folder, or two servers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory: Path | None = None
    neo4j_uri: str | None = None
    neo4j_user: str | None = None
    neo4j_password: SecretStr | None = None
    neo4j_password_file: Path | None = None
    neo4j_password_env: str | None = None
    neo4j_database: str | None = None
    milvus_uri: str | None = None
    milvus_token: SecretStr | None = None
    milvus_token_file: Path | None = None
    milvus_token_env: str | None = None
    namespace: str = "default"
    cache_folder: Path | None = None


class ProfileEntry(NamedTuple):
    """A profile as it stands in a file; `parsed` says whether it is one."""

    name: str
    table: Any
    file: Path

    def __str__(self) -> str:
        return f"the profile {self.name} of {self.file}"

    def parsed(self) -> Profile:
        """What it says.

        Raises:
            LocationError: it says what no profile may say.
        """
        if self.name == ENVIRONMENT or "/" in self.name or not self.name.strip():
            raise LocationError(f"{self} has a name that means something else; choose one without slashes")
        if not isinstance(self.table, dict):
            raise LocationError(f"{self} is no table; write [profiles.{self.name}] above its keys")
        try:
            return Profile.model_validate(self.table)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = ", ".join(Profile.model_fields)
                raise LocationError(f"{self} has the key {key}; a profile knows {known}") from None
            raise LocationError(f"{self} has a wrong {key}: {first['msg']}") from None


def profile_files(start: Path | None = None) -> list[Path]:
    """The `memstore.toml` files that count from a folder (unset: the working folder), the nearest first."""
    start = (start or Path.cwd()).resolve()
    folders = [start, *start.parents, user_folder("XDG_CONFIG_HOME", ".config")]
    files = dict.fromkeys(folder / FILE for folder in folders)
    return [file for file in files if file.is_file()]


def read_profiles(start: Path | None = None) -> dict[str, ProfileEntry]:
    """All profiles by name.

    Raises:
        LocationError: a file cannot be read.
    """
    found: dict[str, ProfileEntry] = {}
    for file in profile_files(start):
        for name, table in _tables(file).items():
            found.setdefault(name, ProfileEntry(name, table, file))
    return found


def user_folder(variable: str, beside: str) -> Path:
    """memstore's folder among the user's configuration or cache, as the XDG base directories say."""
    given = os.environ.get(variable, "")
    # The standard has relative paths ignored.
    base = Path(given) if Path(given).is_absolute() else Path.home() / beside
    return base / "memstore"


def _tables(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocationError(f"{file} cannot be read: {error.strerror}; mend that, or remove it") from error
    except ValueError as error:
        raise LocationError(f"{file} is not valid TOML ({_place(error)}); correct it") from error
    unknown = sorted(set(content) - {"profiles"})
    tables = content.get("profiles", {})
    if unknown or not isinstance(tables, dict):
        raise LocationError(f"{file} has {unknown[0] if unknown else 'profiles'} where only [profiles.NAME] may stand")
    return tables


def _place(error: ValueError) -> str:
    """Where the text is wrong; the parser's own words may quote a value."""
    _, _, place = str(error).rpartition("(at ")
    return f"at {place.rstrip(')')}" if isinstance(error, tomllib.TOMLDecodeError) and place else "it is not UTF-8 text"
