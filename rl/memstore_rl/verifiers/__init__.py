"""Ground truth: an answer held against its gold, by domain.

protocol.py   what a verifier is
math.py       numbers and formulas, equal as mathematics
code.py       programs, by running their tests in the sandbox
choice.py     multiple choice, by letter or by the option's text
processes.py  worker processes with a time limit
standard.py   which verifier judges which domain
"""

from memstore_rl.verifiers.protocol import Attempt, Verdict, Verifier
from memstore_rl.verifiers.standard import Verifiers, make_verifiers, standard_verifiers

__all__ = ["Attempt", "Verdict", "Verifier", "Verifiers", "make_verifiers", "standard_verifiers"]
