"""Where a memory is: a folder, or a Neo4j and a Milvus server with a namespace; and how a name becomes that.

A name is, in this order,

    nothing                what MEMSTORE_MEMORY names, else as `env`
    env                    the servers of MEMSTORE_NEO4J_URI and its like; without them, what MEMSTORE_MEMORY names
    a profile's name       what `memstore.toml` says of it (`memstore.locations.profiles`)
    anything else          a folder

A name that could be a profile or a folder that is there is refused: `./NAME` is the folder. Nothing is opened here.
No message holds a password or a token, and no user or password has a default.
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

_MISSPELT = 0.66
"""Names at least so alike (difflib's ratio) are taken for one misspelt: `lba` and `lab` are, `lab-copy` is not."""


@dataclass(frozen=True)
class FolderLocation:
    """An embedded memory: all of it lies in this folder, and one process owns it."""

    folder: Path
    name: str
    """As it was given, for messages: what `--memory` takes."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ServerLocation:
    """A memory on servers: graph and vectors there, what is derived or a file in a folder here."""

    name: str
    neo4j_uri: str
    neo4j_user: str
    neo4j_password: SecretStr
    neo4j_database: str
    milvus_uri: str
    milvus_token: SecretStr | None
    namespace: str
    folder: Path
    """The local folder: cached vectors, reward models, rejected rows."""

    def __str__(self) -> str:
        return self.name


Location: TypeAlias = FolderLocation | ServerLocation


def resolve_location(name: str | Path | None, settings: Settings) -> Location:
    """The location that a name means; a `Path` is always a folder.

    Raises:
        LocationError: it means nothing, or two things, or something that is described incompletely.
    """
    if isinstance(name, Path):
        return FolderLocation(name.expanduser(), str(name))
    if not name or name == ENVIRONMENT:
        return _from_environment(name, settings)
    if "://" in name:
        raise LocationError(
            "a memory is not named by an address; write a profile into memstore.toml, or set MEMSTORE_NEO4J_URI and "
            f"its like and name the memory {ENVIRONMENT}"
        )
    folder = FolderLocation(Path(name).expanduser(), name)
    profiles = read_profiles() if "/" not in name else {}
    written = profiles.get(name)
    if written is None:
        if not folder.folder.exists():
            _refuse_misspelt(name, profiles)
        return folder
    found = location_of(written)
    if folder.folder.exists() and not (isinstance(found, FolderLocation) and _same(found.folder, folder.folder)):
        raise LocationError(
            f"{name} is {written}, and there is a {folder.folder} too; name the folder ./{name}, or rename the profile"
        )
    return found


def _refuse_misspelt(name: str, profiles: Iterable[str]) -> None:
    """Refuse a name that is nearly a profile's: an ingest would otherwise make a folder of that name."""
    meant = difflib.get_close_matches(name, profiles, n=1, cutoff=_MISSPELT)
    if meant:
        raise LocationError(
            f"there is no profile and no folder {name}; did you mean the profile {meant[0]}? A new folder of that name "
            f"is ./{name}"
        )


def location_of(written: ProfileEntry) -> Location:
    """The location that a profile describes.

    Raises:
        LocationError: it describes none, or not all of it.
    """
    return _ProfileResolver(written.name, str(written), written.parsed(), written.file.parent).location()


def environment_location(settings: Settings) -> ServerLocation | None:
    """The servers that the environment describes; None where it names no Neo4j server.

    Raises:
        LocationError: it describes them incompletely.
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
        "what belongs to it (docs/settings.md)"
    )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


class _ProfileResolver:
    """A profile on its way to a location: what it lacks, in the words of the place where it was written."""

    def __init__(self, name: str, where: str, profile: Profile, base: Path) -> None:
        self._name = name
        self._where = where
        self._profile = profile
        self._base = base

    def location(self) -> Location:
        profile = self._profile
        if profile.memory is not None:
            self._check_only_a_folder()
            return FolderLocation(self._path(profile.memory), self._name)
        if profile.neo4j_uri is None:
            raise LocationError(
                f"{self._where} names no memory; give it {self._key('memory')}, or {self._key('neo4j_uri')}"
            )
        neo4j_uri, milvus_uri = self._address("neo4j_uri"), self._address("milvus_uri")
        database, namespace = self._needed("neo4j_database"), self._namespace()
        return ServerLocation(
            name=self._name,
            neo4j_uri=neo4j_uri,
            neo4j_user=self._needed("neo4j_user"),
            neo4j_password=self._password(),
            neo4j_database=database,
            milvus_uri=milvus_uri,
            milvus_token=self._secret("milvus_token"),
            namespace=namespace,
            folder=self._local(neo4j_uri, database, namespace),
        )

    def _check_only_a_folder(self) -> None:
        beside = sorted(self._profile.model_fields_set - {"memory"})
        if beside:
            raise LocationError(
                f"{self._where} has memory and {beside[0]}; a folder needs nothing else, servers no folder"
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
            raise LocationError(f"{self._where}: {error}") from error
        return self._profile.namespace

    def _needed(self, field: str) -> str:
        value = getattr(self._profile, field)
        if not value:
            raise LocationError(f"{self._where} names a Neo4j server and no {self._key(field)}; add it")
        return str(value)

    def _address(self, field: str) -> str:
        """An address `SCHEME://HOST...` that holds no user or password; one that does is not repeated."""
        uri = self._needed(field)
        try:
            parts = urlsplit(uri)
            host, secret, _ = parts.hostname, "@" in parts.netloc, parts.port
        except ValueError:
            host, secret = None, "@" in uri
        if secret:
            raise LocationError(
                f"{self._where} has a user or password inside {self._key(field)}; give them by themselves"
            )
        if not host or not parts.scheme:
            raise LocationError(f"{self._where} has the {self._key(field)} {uri!r}; write SCHEME://HOST:PORT")
        return uri

    def _password(self) -> SecretStr:
        password = self._secret("neo4j_password")
        if password is None:
            raise LocationError(
                f"{self._where} names a Neo4j server and no password; add {self._key('neo4j_password_file')}, or "
                f"{self._key('neo4j_password')}"
            )
        return password

    def _secret(self, field: str) -> SecretStr | None:
        """A secret that is given outright, in a file or in a variable; None where it is not given.

        Raises:
            LocationError: it is given twice, or is not where it is said to be.
        """
        ways = [way for way in ("", "_file", "_env") if getattr(self._profile, f"{field}{way}", None) is not None]
        if len(ways) > 1:
            first, second = (self._key(field + way) for way in ways[:2])
            raise LocationError(f"{self._where} has both {first} and {second}; keep one of them")
        if not ways:
            return None
        source = getattr(self._profile, field + ways[0])
        if isinstance(source, SecretStr):
            value, origin = source.get_secret_value(), self._key(field)
        elif isinstance(source, Path):
            origin = str(self._path(source))
            value = self._read(self._path(source))
        else:
            origin = f"the variable {source}"
            value = os.environ.get(source, "")
        if not value:
            raise LocationError(f"{self._where} takes its {field} from {origin}, which is empty or not set; fill it")
        return SecretStr(value)

    def _read(self, file: Path) -> str:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise LocationError(
                f"{self._where} names the file {file}, which cannot be read: {error.strerror}"
            ) from error
        except ValueError:
            raise LocationError(f"{self._where} names the file {file}, which is not UTF-8 text") from None

    def _path(self, path: Path) -> Path:
        return self._base / path.expanduser()

    def _key(self, field: str) -> str:
        return f"MEMSTORE_{field.upper()}" if self._name == ENVIRONMENT else field
