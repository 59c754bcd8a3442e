"""Verifiers: compare an answer with its gold answer, by domain.

protocol.py     `Attempt`, `Verdict` and the `Verifier` protocol
math.py         numbers and formulas, compared as mathematics
math_worker.py  the worker process that runs math-verify
code.py         programs, by running their tests in the sandbox
choice.py       multiple choice, by letter or by the option's text
outcomes.py     outcomes kept by digest
standard.py     the verifiers of each domain
"""

from memstore_rl.verifiers.protocol import Attempt, Verdict, Verifier
from memstore_rl.verifiers.standard import Verifiers, make_verifiers, standard_verifiers

__all__ = ["Attempt", "Verdict", "Verifier", "Verifiers", "make_verifiers", "standard_verifiers"]
