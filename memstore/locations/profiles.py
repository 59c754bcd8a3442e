"""Profiles: named memories in `memstore.toml`, so that addresses and passwords are written down once.

    [profiles.lab]
    neo4j_uri = "bolt://graph.lab:7687"
    neo4j_user = "memstore"
    neo4j_password_file = "~/.config/memstore/lab"    # or neo4j_password_env = "LAB_PASSWORD"
    neo4j_database = "neo4j"
    milvus_uri = "http://vectors.lab:19530"
    namespace = "arithmetic"

    [profiles.small]
    memory = "memories/small"                         # a folder

The file is searched for in the working folder, in every folder above it, and in the user's configuration folder. If two
files define a profile of the same name, the nearest file wins. Relative paths are relative to the file's folder.

No message of this module quotes a value from the file, because it may be a secret.
"""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from memstore.errors import LocationError

logger = logging.getLogger(__name__)

FILE = "memstore.toml"
ENVIRONMENT = "env"
"""Name of the memory that the environment describes; a profile cannot have it."""


class Profile(BaseModel):
    """The keys of a profile. They describe a folder (`memory`), or a Neo4j and a Milvus server."""

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
    """A profile as written in a file, not yet validated."""

    name: str
    table: Any
    file: Path

    def __str__(self) -> str:
        return f"the profile {self.name} of {self.file}"

    def parsed(self) -> Profile:
        """Validate the profile.

        Raises:
            LocationError: the name, a key or a value is invalid.
        """
        if self.name == ENVIRONMENT or "/" in self.name or not self.name.strip():
            raise LocationError(f"{self} has a reserved or invalid name; choose another one, without slashes")
        if not isinstance(self.table, dict):
            raise LocationError(f"{self} is not a table; write [profiles.{self.name}] above its keys")
        try:
            profile = Profile.model_validate(self.table)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = ", ".join(Profile.model_fields)
                raise LocationError(f"{self} has the unknown key {key}; the keys of a profile are {known}") from None
            raise LocationError(f"{self} has an invalid {key}: {first['msg']}") from None
        self._warn_of_readers(profile)
        return profile

    def _warn_of_readers(self, profile: Profile) -> None:
        """Warn of a password or token in a file that other users can read."""
        secret = profile.neo4j_password or profile.milvus_token
        if secret is not None and self.file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            logger.warning("%s holds a password that other users can read; run: chmod 600 %s", self, self.file)


def profile_files(start: Path | None = None) -> list[Path]:
    """The `memstore.toml` files that apply in a folder (None: the working folder), nearest first."""
    start = (start or Path.cwd()).resolve()
    folders = [start, *start.parents, user_folder("XDG_CONFIG_HOME", ".config")]
    files = dict.fromkeys(folder / FILE for folder in folders)
    return [file for file in files if file.is_file()]


def read_profiles(start: Path | None = None) -> dict[str, ProfileEntry]:
    """Read all profiles, by name.

    Raises:
        LocationError: a file cannot be read.
    """
    found: dict[str, ProfileEntry] = {}
    for file in profile_files(start):
        for name, table in _tables(file).items():
            found.setdefault(name, ProfileEntry(name, table, file))
    return found


def user_folder(variable: str, default: str) -> Path:
    """memstore's folder in the user's configuration or cache folder, by the XDG base directory specification."""
    given = os.environ.get(variable, "")
    # The specification requires relative paths to be ignored.
    base = Path(given) if Path(given).is_absolute() else Path.home() / default
    return base / "memstore"


def _tables(file: Path) -> dict[str, Any]:
    """The profiles of a file, not yet validated."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocationError(f"cannot read {file}: {error.strerror}; make it readable, or remove it") from error
    except ValueError as error:
        raise LocationError(f"{file} is not valid TOML ({_error_position(error)}); correct it") from error
    unknown = sorted(set(content) - {"profiles"})
    tables = content.get("profiles", {})
    if unknown or not isinstance(tables, dict):
        key = unknown[0] if unknown else "profiles"
        raise LocationError(f"{file} has the unexpected key {key}; write only [profiles.NAME] tables")
    return tables


def _error_position(error: ValueError) -> str:
    """Position of a syntax error, without the rest of the parser's message, which may quote a value."""
    _, _, position = str(error).rpartition("(at ")
    if isinstance(error, tomllib.TOMLDecodeError) and position:
        return f"at {position.rstrip(')')}"
    return "it is not UTF-8 text"
