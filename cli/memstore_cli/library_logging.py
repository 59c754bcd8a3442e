"""Silence log lines, warnings and progress bars of third-party libraries on the user's terminal.

Call `quiet_libraries` before the libraries are imported. Variables that the user has set are kept. `memstore.vectors`
silences the vector database itself.
"""

from __future__ import annotations

import logging
import os

VARIABLES = {
    "HF_HUB_VERBOSITY": "error",  # a line for each try to reach a hub
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # a bar for the weights of every loaded model
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",  # a bar for the rows of every split
    "TRANSFORMERS_VERBOSITY": "error",  # warnings about texts over the window, which the embedder handles
}
LOGGERS = ("huggingface_hub", "sentence_transformers", "transformers")


def quiet_libraries() -> None:
    """Set the environment variables and log levels that silence the libraries."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for name in LOGGERS:
        # An unreachable hub is tried six times with two log lines each; the exception that follows is enough.
        logging.getLogger(name).setLevel(logging.CRITICAL)
