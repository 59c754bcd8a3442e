"""Libraries that talk to themselves on a user's terminal, and how each is told not to.

Called before the library is first imported. A variable that the user has set is left as it is. The vector database is
not among them: `memstore.vectors` keeps it silent by itself.
"""

from __future__ import annotations

import logging
import os

VARIABLES = {
    "HF_HUB_VERBOSITY": "error",  # each of the tries at a hub that does not answer
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # a bar over the weights of every model that is loaded
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",  # a bar over the rows of every split that is read
    "TRANSFORMERS_VERBOSITY": "error",  # that a text is longer than the window, which the embedder knows
}
LOGGERS = ("huggingface_hub", "sentence_transformers", "transformers")


def silence_libraries() -> None:
    """Keep log lines, warnings and bars of the libraries below memstore away from the user."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for name in LOGGERS:
        # A hub that cannot be reached is tried six times, with two lines each; what follows from it is an exception.
        logging.getLogger(name).setLevel(logging.CRITICAL)
