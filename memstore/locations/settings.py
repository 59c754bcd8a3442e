"""Settings, typed: what the environment (`MEMSTORE_*`) and the caller may choose.

Read where a command starts, never at import. docs/settings.md is made from this class.

What data depend on (embedder, link settings) is recorded in the memory when it is made and wins from then on:
a memory under other settings would be another memory.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from memstore.embedding.protocol import LongText
from memstore.vectors.knn import LinkSettings


class Settings(BaseSettings):
    """Everything that can be set, each as `MEMSTORE_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="MEMSTORE_", env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    memory: str | None = None
    """Where the memory is: a folder, a profile of `memstore.toml`, or `env` for the servers named here. `--memory`
    wins over it."""
    neo4j_uri: str | None = None
    """Address of the Neo4j server of the memory `env`: `bolt://HOST:7687` or `neo4j://HOST:7687`, with `+s` for TLS."""
    neo4j_user: str | None = None
    """User of that server; needed with it."""
    neo4j_password: SecretStr | None = None
    """Password of that user; needed with it, or the next."""
    neo4j_password_file: Path | None = None
    """A file that holds the password and nothing else."""
    neo4j_database: str | None = None
    """Database of that server; needed with it. Neo4j's first one is called `neo4j`."""
    milvus_uri: str | None = None
    """Address of the Milvus server of the memory `env`: `http://HOST:19530`, or `https://`; needed with Neo4j's."""
    milvus_token: SecretStr | None = None
    """What that server knows one by, an API key or `USER:PASSWORD`; only where it asks for one."""
    milvus_token_file: Path | None = None
    """A file that holds the token and nothing else."""
    namespace: str = "default"
    """Which project's memory on these servers; projects of other namespaces are not seen. A folder has one only."""
    cache_folder: Path | None = None
    """Where a memory on servers keeps what is local (cached vectors, reward models, rejected rows); unset: a folder
    by server, database and namespace in the user's cache directory."""
    embedder: str = "all-MiniLM-L6-v2"
    """sentence-transformers model that a new memory is built with."""
    long_text: LongText = "mean"
    """What becomes of a text longer than the embedder's window, in a new memory."""
    device: str | None = None
    """Where embedding and training run: `cpu`, `cuda`, `cuda:1`; unset: a GPU when there is one."""
    link_k: int = Field(default=5, ge=1, le=100)
    """Neighbours a node is linked to, in a new memory."""
    link_floor: float = Field(default=0.0, ge=-1.0, le=1.0)
    """No similarity edge below this cosine, in a new memory."""
    graph_buffer_mb: int = Field(default=2048, ge=64)
    """Megabytes of page cache that an embedded graph may use."""

    def link_settings(self) -> LinkSettings:
        """The link settings of a new memory."""
        return LinkSettings(k=self.link_k, floor=self.link_floor)
