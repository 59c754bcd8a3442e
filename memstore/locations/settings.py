"""Settings: values that the environment (`MEMSTORE_*`) or the caller may choose. docs/settings.md lists them.

They are read when a command starts, never at import.

The embedder and the link settings are recorded in a memory when it is made, and the recorded values win from then on.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from memstore.embedding.protocol import LongText
from memstore.vectors.knn import LinkSettings


class Settings(BaseSettings):
    """The settings; each is also an environment variable `MEMSTORE_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="MEMSTORE_", env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    memory: str | None = None
    """Location of the memory: a folder, a profile of `memstore.toml`, or `env` for the servers that the settings below
    describe. `--memory` overrides it."""
    neo4j_uri: str | None = None
    """Address of the Neo4j server of the memory `env`: `bolt://HOST:7687` or `neo4j://HOST:7687`, with `+s` for TLS."""
    neo4j_user: str | None = None
    """User of the Neo4j server; required with its address."""
    neo4j_password: SecretStr | None = None
    """Password of that user; this or `MEMSTORE_NEO4J_PASSWORD_FILE` is required with the address."""
    neo4j_password_file: Path | None = None
    """File that contains the password and nothing else."""
    neo4j_database: str | None = None
    """Database on the Neo4j server; required with its address. Neo4j's default database is `neo4j`."""
    milvus_uri: str | None = None
    """Address of the Milvus server of the memory `env`: `http://HOST:19530` or `https://HOST:19530`; required with
    Neo4j's."""
    milvus_token: SecretStr | None = None
    """Credential of the Milvus server, an API key or `USER:PASSWORD`; only if the server requires one."""
    milvus_token_file: Path | None = None
    """File that contains the token and nothing else."""
    namespace: str = "default"
    """Namespace of the memory on these servers; it separates projects. A folder has only the namespace `default`."""
    cache_folder: Path | None = None
    """Local folder of a memory on servers, for cached vectors, reward models and rejected rows. Default: a folder named
    by server, database and namespace in the user's cache folder."""
    embedder: str = "all-MiniLM-L6-v2"
    """sentence-transformers model that embeds the texts of a new memory."""
    long_text: LongText = "mean"
    """How a new memory embeds a text that is longer than the embedder's window."""
    device: str | None = None
    """Device for embedding, linking and training: `cpu`, `cuda`, `cuda:1`. Default: a GPU if there is one."""
    link_k: int = Field(default=5, ge=1, le=100)
    """Number of neighbours that each node of a new memory is linked to."""
    link_floor: float = Field(default=0.0, ge=-1.0, le=1.0)
    """Lowest cosine of a link in a new memory."""
    graph_buffer_mb: int = Field(default=2048, ge=64)
    """Page cache of an embedded graph, in megabytes."""

    def link_settings(self) -> LinkSettings:
        """The link settings of a new memory."""
        return LinkSettings(k=self.link_k, floor=self.link_floor)
