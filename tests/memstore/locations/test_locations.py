"""Resolving a name to a folder, a profile or the environment; the errors, and that no message contains a secret."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from memstore.errors import LocationError
from memstore.locations.location import FolderLocation, ServerLocation, resolve_location
from memstore.locations.profile_status import list_memories
from memstore.locations.settings import Settings
from memstore.memory import Memory

PASSWORD, TOKEN = "correct-horse-battery", "root:staple-token"
LAB = f"""
[profiles.lab]
neo4j_uri = "neo4j+s://graph.lab:7688"
neo4j_user = "ada"
neo4j_password = "{PASSWORD}"
neo4j_database = "rollouts"
milvus_uri = "http://vectors.lab:19530"
milvus_token = "{TOKEN}"
namespace = "sums"
cache_folder = "local"
"""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an empty home folder, and no settings in the environment."""
    for key in list(os.environ):
        if key.startswith(("MEMSTORE_", "XDG_")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here = tmp_path / "work"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memstore.toml").write_text(text, encoding="utf-8")
    return folder


def servers(name: str | None, settings: Settings | None = None) -> ServerLocation:
    found = resolve_location(name, settings or Settings())
    assert isinstance(found, ServerLocation)
    return found


def folder(name: str | Path | None, settings: Settings | None = None) -> FolderLocation:
    found = resolve_location(name, settings or Settings())
    assert isinstance(found, FolderLocation)
    return found


def from_lab(**changes: str | None) -> str:
    """The profile with some keys changed; None removes a key."""
    lines = dict(line.split(" = ", 1) for line in LAB.strip().splitlines()[1:])
    lines.update({key: f'"{value}"' for key, value in changes.items() if value is not None})
    kept = [f"{key} = {value}" for key, value in lines.items() if changes.get(key, "") is not None]
    return "\n".join(["[profiles.lab]", *kept, ""])


def refusal(text: str, name: str = "lab") -> str:
    write(Path.cwd(), text)
    with pytest.raises(LocationError) as raised:
        resolve_location(name, Settings())
    message = str(raised.value)
    assert "\n" not in message
    assert PASSWORD not in message
    assert TOKEN not in message
    return message


def test_a_path_or_a_name_without_a_profile_is_a_folder(isolated: Path) -> None:
    assert folder("memory") == FolderLocation(Path("memory"), "memory")
    assert folder(Path("env")).folder == Path("env")
    assert folder("~/memory").folder == isolated.parent / "home" / "memory"


def test_a_profile_describes_servers(isolated: Path) -> None:
    write(isolated, LAB)
    found = servers("lab")
    assert found == ServerLocation(
        name="lab",
        neo4j_uri="neo4j+s://graph.lab:7688",
        neo4j_user="ada",
        neo4j_password=SecretStr(PASSWORD),
        neo4j_database="rollouts",
        milvus_uri="http://vectors.lab:19530",
        milvus_token=SecretStr(TOKEN),
        namespace="sums",
        folder=isolated / "local" / "graph.lab_7688" / "rollouts" / "sums",
    )
    assert str(found) == "lab"
    assert PASSWORD not in repr(found)
    assert TOKEN not in repr(found)


def test_the_nearest_profile_file_wins_and_the_users_own_comes_last(
    isolated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path / "home" / ".config" / "memstore", '[profiles.a]\nmemory = "x"\n[profiles.b]\nmemory = "/far"\n')
    write(isolated, '[profiles.a]\nmemory = "../y"\n')
    below = isolated / "deep" / "er"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert folder("a").folder == isolated / ".." / "y"
    assert folder("b").folder == Path("/far")
    write(tmp_path / "config" / "memstore", '[profiles.b]\nmemory = "/near"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert folder("b").folder == Path("/near")


def test_a_name_of_both_a_profile_and_a_folder_is_refused(isolated: Path) -> None:
    write(isolated, '[profiles.mine]\nmemory = "mine"\n[profiles.other]\nmemory = "elsewhere"\n')
    (isolated / "mine").mkdir()
    (isolated / "other").mkdir()
    assert folder("mine").folder.resolve() == isolated / "mine"
    assert folder("./other").folder == Path("other")
    with pytest.raises(LocationError, match=r"\./other"):
        resolve_location("other", Settings())


def test_a_misspelt_profile_does_not_make_a_folder(isolated: Path) -> None:
    write(isolated, '[profiles.lab]\nmemory = "x"\n[profiles.arithmetic]\nmemory = "y"\n')
    for name, meant in (("lba", "lab"), ("arithmetc", "arithmetic")):
        with pytest.raises(LocationError, match=rf"did you mean the profile {meant}\? .* \./{name}$"):
            resolve_location(name, Settings())
        assert folder(f"./{name}").folder == Path(name)
    assert folder("lab-copy").folder == Path("lab-copy")
    (isolated / "lba").mkdir()
    assert folder("lba").folder == Path("lba")


def test_the_password_may_be_in_a_file_or_a_variable(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (isolated / "secret").write_text(f"{PASSWORD}\n")
    write(isolated, from_lab(neo4j_password=None, neo4j_password_file="secret"))
    assert servers("lab").neo4j_password.get_secret_value() == PASSWORD
    write(isolated, from_lab(neo4j_password=None, neo4j_password_env="LAB_SECRET"))
    with pytest.raises(LocationError, match="LAB_SECRET, which is empty or not set"):
        servers("lab")
    monkeypatch.setenv("LAB_SECRET", PASSWORD)
    assert servers("lab").neo4j_password.get_secret_value() == PASSWORD


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, True), (0o600, False)])
@pytest.mark.parametrize("secret", [True, False])
def test_a_password_that_others_can_read_is_warned_of(
    isolated: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool, secret: bool
) -> None:
    changes: dict[str, str | None] = (
        {} if secret else {"neo4j_password": None, "neo4j_password_file": "secret", "milvus_token": None}
    )
    (isolated / "secret").write_text(PASSWORD)
    write(isolated, from_lab(**changes))
    (isolated / "memstore.toml").chmod(mode)
    servers("lab")
    assert ("chmod 600" in caplog.text) is (warned and secret)
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"neo4j_user": None}, "no neo4j_user; add it"),
        ({"neo4j_password": None}, "no password"),  # never a default one
        ({"neo4j_password": ""}, "empty or not set"),
        ({"neo4j_database": None}, "no neo4j_database; add it"),
        ({"milvus_uri": None}, "no milvus_uri; add it"),
        ({"neo4j_uri": None}, "names no memory"),
        ({"memory": "here"}, "memory and cache_folder"),
        ({"neo4j_password_env": "X"}, "both neo4j_password and neo4j_password_env"),
        ({"neo4j_password": None, "neo4j_password_file": "nowhere"}, "cannot be read: No such file"),
        ({"neo4j_uri": f"bolt://ada:{PASSWORD}@graph.lab"}, "user or password inside neo4j_uri"),
        ({"milvus_uri": f"http://{TOKEN}@vectors.lab:1"}, "user or password inside milvus_uri"),
        ({"milvus_uri": "vectors"}, "SCHEME://HOST:PORT"),  # without a scheme it would be a folder
        ({"neo4j_uri": "bolt://host:port"}, "SCHEME://HOST:PORT"),
        ({"namespace": "a b"}, "namespace 'a b' cannot be used"),
        ({"namespace": '\\" or 1 == 1'}, "cannot be used"),
        ({"neo4j_pasword": PASSWORD}, "has the unknown key neo4j_pasword"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
def test_an_invalid_profile_is_refused_with_the_remedy(changes: dict[str, str | None], expected: str) -> None:
    message = refusal(from_lab(**changes))
    assert expected in message
    assert "the profile lab of" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'[profiles.lab]\nneo4j_password = "{PASSWORD}', "is not valid TOML (at end of document)"),
        ("[memories.lab]", "unexpected key memories"),
        ("profiles = 3", "unexpected key profiles"),
        ("[profiles]\nlab = 3", "is not a table"),
        (f"[profiles.lab]\nneo4j_password = ['{PASSWORD}']", "invalid neo4j_password"),
    ],
)
def test_an_invalid_profile_file_is_refused(text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_the_environment_names_a_folder_a_profile_or_servers(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (None, "", "env"):
        with pytest.raises(LocationError, match="names no memory"):
            resolve_location(name, Settings())
    write(isolated, LAB)
    monkeypatch.setenv("MEMSTORE_MEMORY", "lab")
    assert servers(None).name == servers("env").name == "lab"
    for key, value in {
        "NEO4J_URI": "bolt://[::1]:7687",
        "NEO4J_USER": "bob",
        "NEO4J_DATABASE": "neo4j",
        "MILVUS_URI": "http://localhost:19530",
        "NAMESPACE": "tests",
    }.items():
        monkeypatch.setenv(f"MEMSTORE_{key}", value)
    assert servers(None).name == "lab"
    with pytest.raises(LocationError, match=r"the environment .* MEMSTORE_NEO4J_PASSWORD_FILE"):
        servers("env")
    monkeypatch.setenv("MEMSTORE_NEO4J_PASSWORD", PASSWORD)
    found = servers("env")
    assert (found.neo4j_user, found.milvus_token, found.namespace) == ("bob", None, "tests")
    assert found.folder == isolated.parent / "home" / ".cache" / "memstore" / "::1_7687" / "neo4j" / "tests"
    assert PASSWORD not in repr(Settings())
    monkeypatch.setenv("MEMSTORE_MEMORY", "env")
    assert servers(None).name == servers("env").name == "env"


def test_an_address_is_refused_and_makes_no_folder(isolated: Path) -> None:
    with pytest.raises(LocationError) as raised:
        Memory.open(f"bolt://neo4j:{PASSWORD}@localhost:7687", create=True)
    assert PASSWORD not in str(raised.value)
    assert not list(isolated.iterdir())


def test_the_error_for_a_missing_folder_names_it_as_given() -> None:
    with pytest.raises(LocationError, match=re.escape("memstore ingest FILE --memory nowhere")):
        Memory.open("nowhere")


def test_list_memories_gives_the_reason_why_each_cannot_be_opened(isolated: Path) -> None:
    broken = from_lab(neo4j_user=None).replace("profiles.lab", "profiles.broken")
    away = from_lab(neo4j_uri="bolt://127.0.0.1:1", milvus_uri="http://127.0.0.1:1").replace("lab]", "away]")
    write(isolated, f'{broken}\n{away}\n[profiles.small]\nmemory = "small"\n[profiles.lost]\nmemory = "lost"\n')
    Memory.open(isolated / "small", create=True).close()
    found = {status.name: status for status in list_memories(Settings())}
    assert list(found) == ["away", "broken", "lost", "small"]
    assert found["small"].as_json() == {
        "name": "small",
        "reachable": True,
        "where": str(isolated / "small"),
        "source": str(isolated / "memstore.toml"),
        "reason": None,
    }
    reasons = {name: status.reason or "" for name, status in found.items()}
    assert "no Milvus server answers at http://127.0.0.1:1" in reasons["away"]
    assert "no neo4j_user" in reasons["broken"]
    assert "there is no memory at" in reasons["lost"]
    assert not (isolated / "lost").exists()
    assert PASSWORD not in str(found)
