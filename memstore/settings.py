"""Settings, typed: what the environment (`MEMSTORE_*`) and the caller may choose.

Read where a command starts, never at import.

What data depend on (embedder, link settings) is recorded in the memory when it is made and wins from then on:
a memory under other settings would be another memory.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from memstore.embedding.protocol import LongText
from memstore.links import LinkSettings


class Settings(BaseSettings):
    """Everything that can be set, each as `MEMSTORE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="MEMSTORE_", extra="ignore", frozen=True)

    memory: str | None = None
    """Where the memory is: a folder. `--memory` wins over it."""
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
