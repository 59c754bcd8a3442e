"""Locations: where a memory is stored, and how a name is resolved to that place.

A memory is either in a folder, or on a Neo4j and a Milvus server under a namespace. A name is resolved in this order:

    none               the memory that MEMSTORE_MEMORY names; without it, as `env`
    env                the servers of MEMSTORE_NEO4J_URI and related variables; without them, MEMSTORE_MEMORY
    name of a profile  what `memstore.toml` describes (`memstore.locations.profiles`)
    anything else      a folder

A name that fits both a profile and an existing folder is refused; write `./NAME` for the folder. Resolving a name opens
nothing. No message contains a password or a token, and neither user nor password has a default.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from pydantic import SecretStr

from memstore.checks import check_name
from memstore.errors import InputError, LocationError
from memstore.locations.profiles import ENVIRONMENT, Profile, ProfileEntry, read_profiles, user_folder
from memstore.locations.settings import Settings

_SIMILAR_NAMES = 0.66
"""Ratio of difflib (0..1) above which a name counts as a misspelt profile: `lba` for `lab`, but not `lab-copy`."""


@dataclass(frozen=True)
class FolderLocation:
    """Location of an embedded memory: one folder, which one process owns at a time."""

    folder: Path
    name: str
    """The name as given, for messages; `--memory` accepts it."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ServerLocation:
    """Location of a memory on servers: graph and vectors are there, caches and files in a local folder."""

    name: str
    neo4j_uri: str
    neo4j_user: str
    neo4j_password: SecretStr
    neo4j_database: str
    milvus_uri: str
    milvus_token: SecretStr | None
    namespace: str
    folder: Path
    """Local folder of cached vectors, reward models and rejected rows."""

    def __str__(self) -> str:
        return self.name


Location: TypeAlias = FolderLocation | ServerLocation


def resolve_location(name: str | Path | None, settings: Settings) -> Location:
    """Resolve a name to a location. A `Path` is always a folder.

    Raises:
        LocationError: the name is ambiguous, an address or a misspelt profile, or its description is incomplete.
    """
    if isinstance(name, Path):
        return FolderLocation(name.expanduser(), str(name))
    if not name or name == ENVIRONMENT:
        return _from_environment(name, settings)
    if "://" in name:
        raise LocationError(
            "a memory cannot be named by an address; describe the servers in a profile of memstore.toml, or with "
            f"MEMSTORE_NEO4J_URI and related variables, and name the memory {ENVIRONMENT}"
        )
    folder = FolderLocation(Path(name).expanduser(), name)
    profiles = read_profiles() if "/" not in name else {}
    entry = profiles.get(name)
    if entry is None:
        if not folder.folder.exists():
            _refuse_misspelt(name, profiles)
        return folder
    found = location_of(entry)
    if folder.folder.exists() and not (isinstance(found, FolderLocation) and _same(found.folder, folder.folder)):
        raise LocationError(f"{name} is both {entry} and a folder; name the folder ./{name}, or rename the profile")
    return found


def _refuse_misspelt(name: str, profiles: Iterable[str]) -> None:
    """Refuse a name that resembles a profile's, because an ingest would make a folder of that name."""
    similar = difflib.get_close_matches(name, profiles, n=1, cutoff=_SIMILAR_NAMES)
    if similar:
        raise LocationError(
            f"there is no profile or folder {name}; did you mean the profile {similar[0]}? To make a new folder, write "
            f"./{name}"
        )


def location_of(entry: ProfileEntry) -> Location:
    """The location that a profile describes.

    Raises:
        LocationError: the description is invalid or incomplete.
    """
    return _ProfileResolver(entry.name, str(entry), entry.parsed(), entry.file.parent).location()


def environment_location(settings: Settings) -> ServerLocation | None:
    """The servers that the environment describes; None if it names no Neo4j server.

    Raises:
        LocationError: the description is incomplete.
    """
    if settings.neo4j_uri is None:
        return None
    given = settings.model_dump(include=set(Profile.model_fields) - {"memory"})
    found = _ProfileResolver(ENVIRONMENT, "the environment", Profile(**given), Path.cwd()).location()
    assert isinstance(found, ServerLocation)
    return found


def _from_environment(name: str | None, settings: Settings) -> Location:
    named = settings.memory if settings.memory != ENVIRONMENT else None
    if not name and named is not None:
        return resolve_location(named, settings)
    servers = environment_location(settings)
    if servers is not None:
        return servers
    if named is not None:
        return resolve_location(named, settings)
    raise LocationError(
        "the environment names no memory; set MEMSTORE_MEMORY to a folder or a profile, or MEMSTORE_NEO4J_URI and "
        "related variables (docs/settings.md)"
    )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


class _ProfileResolver:
    """Converts a profile to a location. Errors name the profile's source and the keys as they are spelled there."""

    def __init__(self, name: str, source: str, profile: Profile, base: Path) -> None:
        self._name = name
        self._source = source
        self._profile = profile
        self._base = base

    def location(self) -> Location:
        profile = self._profile
        if profile.memory is not None:
            self._check_only_a_folder()
            return FolderLocation(self._path(profile.memory), self._name)
        if profile.neo4j_uri is None:
            raise LocationError(
                f"{self._source} names no memory; add {self._key('memory')} or {self._key('neo4j_uri')}"
            )
        neo4j_uri, milvus_uri = self._address("neo4j_uri"), self._address("milvus_uri")
        database, namespace = self._required("neo4j_database"), self._namespace()
        return ServerLocation(
            name=self._name,
            neo4j_uri=neo4j_uri,
            neo4j_user=self._required("neo4j_user"),
            neo4j_password=self._password(),
            neo4j_database=database,
            milvus_uri=milvus_uri,
            milvus_token=self._secret("milvus_token"),
            namespace=namespace,
            folder=self._local(neo4j_uri, database, namespace),
        )

    def _check_only_a_folder(self) -> None:
        extra = sorted(self._profile.model_fields_set - {"memory"})
        if extra:
            raise LocationError(
                f"{self._source} has memory and {extra[0]}; keep memory for a folder, or remove it for servers"
            )

    def _local(self, uri: str, database: str, namespace: str) -> Path:
        parts = urlsplit(uri)
        base = self._profile.cache_folder
        root = self._path(base) if base is not None else user_folder("XDG_CACHE_HOME", ".cache")
        return root / f"{parts.hostname}_{parts.port or 7687}" / database.replace("/", "_") / namespace

    def _namespace(self) -> str:
        try:
            check_name("namespace", self._profile.namespace)
        except InputError as error:
            raise LocationError(f"{self._source}: {error}") from error
        return self._profile.namespace

    def _required(self, field: str) -> str:
        value = getattr(self._profile, field)
        if not value:
            raise LocationError(f"{self._source} names a Neo4j server but no {self._key(field)}; add it")
        return str(value)

    def _address(self, field: str) -> str:
        """An address `SCHEME://HOST...`. One that contains a user or password is refused and not quoted."""
        uri = self._required(field)
        try:
            parts = urlsplit(uri)
            host, secret, _ = parts.hostname, "@" in parts.netloc, parts.port
        except ValueError:
            host, secret = None, "@" in uri
        if secret:
            raise LocationError(
                f"{self._source} has a user or password inside {self._key(field)}; move them to keys of their own"
            )
        if not host or not parts.scheme:
            raise LocationError(f"{self._source} has the invalid {self._key(field)} {uri!r}; write SCHEME://HOST:PORT")
        return uri

    def _password(self) -> SecretStr:
        password = self._secret("neo4j_password")
        if password is None:
            raise LocationError(
                f"{self._source} names a Neo4j server but no password; add {self._key('neo4j_password_file')} or "
                f"{self._key('neo4j_password')}"
            )
        return password

    def _secret(self, field: str) -> SecretStr | None:
        """A secret that is given directly, in a file or in a variable; None if it is not given.

        Raises:
            LocationError: it is given twice, or its file or variable is missing or empty.
        """
        ways = ("", "_file", "_env")
        suffixes = [way for way in ways if getattr(self._profile, field + way, None) is not None]
        if len(suffixes) > 1:
            first, second = (self._key(field + suffix) for suffix in suffixes[:2])
            raise LocationError(f"{self._source} has both {first} and {second}; keep one of them")
        if not suffixes:
            return None
        source = getattr(self._profile, field + suffixes[0])
        if isinstance(source, SecretStr):
            value, origin = source.get_secret_value(), self._key(field)
        elif isinstance(source, Path):
            origin = str(self._path(source))
            value = self._read(self._path(source))
        else:
            origin = f"the variable {source}"
            value = os.environ.get(source, "")
        if not value:
            raise LocationError(f"{self._source} takes its {field} from {origin}, which is empty or not set; set it")
        return SecretStr(value)

    def _read(self, file: Path) -> str:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise LocationError(
                f"{self._source} names the file {file}, which cannot be read: {error.strerror}"
            ) from error
        except ValueError:
            raise LocationError(f"{self._source} names the file {file}, which is not UTF-8 text") from None

    def _path(self, path: Path) -> Path:
        return self._base / path.expanduser()

    def _key(self, field: str) -> str:
        return f"MEMSTORE_{field.upper()}" if self._name == ENVIRONMENT else field
