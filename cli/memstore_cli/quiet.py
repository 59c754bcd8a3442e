"""Libraries that talk to themselves on a user's terminal, and how each is told not to.

Called before the library is first imported. A variable that the user has set is left as it is.
"""

from __future__ import annotations

import logging
import os

VARIABLES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "GRPC_VERBOSITY": "NONE",
}
LOGGERS = ("milvus_lite", "pymilvus", "sentence_transformers", "transformers", "huggingface_hub")


def silence_libraries() -> None:
    """Keep log lines, warnings and bars of the libraries below memstore away from the user."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for name in LOGGERS:
        # Their errors reach the user as exceptions; the log line would say the same a second time.
        logging.getLogger(name).setLevel(logging.CRITICAL)
