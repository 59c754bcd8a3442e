r"""Worker process that compares formulas with math-verify: `python -m memstore_rl.verifiers.math_worker`.

A request is `[gold, answer, seconds]` as JSON; with the answer null, only the gold answer is checked. The response is a
letter and the CPU seconds used:

    1   equal; with the answer null: the gold answer can be parsed and compared
    0   different
    g   the gold answer cannot be parsed
    t   out of CPU time or memory

Each comparison runs in a forked child, which the kernel kills at its limit of CPU time, also in an operation that no
signal handler can interrupt (a power with millions of digits). The worker goes on without a new start. The limit counts
CPU time, so a busy machine does not change a verdict. The fixed hash seed and the fork make a comparison independent of
earlier ones.
"""

from __future__ import annotations

import gc
import json
import logging
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Expr, FiniteSet, Float, Interval, MatrixBase, Rational, Tuple

from memstore.runtime.processes import run_forked, serve

MEMORY_BYTES = 1 << 30
"""Address space of a worker."""
SMALL = 0.01
"""Numbers below this are compared relative to their size; above it, math-verify's six decimals are precise enough."""
RELATIVE_TOLERANCE = 1e-4
"""Relative difference up to which such numbers are equal."""
_WARM_UP = (
    ("\\frac{x^2+1}{\\sqrt{2}}=(1,2]", "2x-\\{1, 3\\}"),
    ("x+1", "1+x"),
    ("x+1", "7"),
    ("x+1", "x^2+y"),
    ("\\frac{a}{b}", "a/b"),
    ("\\frac{1}{3}", "\\sqrt{2}"),
    ("\\{1,2\\}", "\\{1,3\\}"),
    ("(1,2)", "[1,2)"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\3\\end{pmatrix}"),
    ("2^{10}-1", "\\binom{5}{2}!"),
    ("\\sin(x)+\\pi", "\\log_2(x)-e"),
    ("0.125", "\\frac{1}{8}"),
)
"""Comparisons of each kind, made once before any other."""
_LATEX = (LatexExtractionConfig(boxed_match_priority=0),)


def compare(gold: str, answer: str) -> str:
    """Compare two formulas; return the response letter of the module docstring."""
    parsed_gold = _parse(gold)
    if not parsed_gold:
        return "g"
    parsed_answer = _parse(answer)
    equal = verify(parsed_gold, parsed_answer, timeout_seconds=None)
    return "1" if equal and _same_magnitude(parsed_gold, parsed_answer) else "0"


def _same_magnitude(gold: list[Any], answer: list[Any]) -> bool:
    """Return whether a pair of parsed expressions agrees relative to its size.

    math-verify rounds to six decimals, to which all small numbers are zero.
    """
    pairs = [(left, right) for left in gold for right in answer if not isinstance(left, str | type(None))]
    return not pairs or any(_close(left, right) for left, right in pairs if not isinstance(right, str))


def _close(gold: Any, answer: Any) -> bool:
    """Compare two expressions element by element; False only for small numbers that differ."""
    if isinstance(gold, MatrixBase | Tuple | Interval | FiniteSet) and type(gold) is type(answer):
        left, right = _elements(gold), _elements(answer)
        return len(left) != len(right) or all(map(_close, left, right))
    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return True
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    values = {symbol: Rational(10 + at, 9) for at, symbol in enumerate(symbols)}
    left, right = (expression.subs(values).evalf(20) for expression in (gold, answer))
    if not (isinstance(left, Float) and isinstance(right, Float)) or min(left._prec, right._prec) <= 1:
        # Not a number, or a zero that is known to no digit.
        return True
    size = max(abs(left), abs(right))
    return bool(size > SMALL or abs(left - right) <= RELATIVE_TOLERANCE * size)


def _elements(collection: Any) -> list[Any]:
    if isinstance(collection, MatrixBase):
        return list(collection)
    if isinstance(collection, FiniteSet):
        return sorted(collection.args, key=lambda element: str(element.evalf(8)))
    return list(collection.args[:2]) if isinstance(collection, Interval) else list(collection.args)


def _parse(formula: str) -> list[Any]:
    boxed = "\\boxed{" + formula + "}"
    parsed: list[Any] = parse(boxed, _LATEX, fallback_mode="no_fallback", parsing_timeout=None)
    return parsed


def _handle(request: str) -> str:
    """Handle one request in a forked child."""
    gold, answer, seconds = json.loads(request)
    work = (lambda _: _check_gold(gold)) if answer is None else (lambda _: compare(gold, answer))
    ran = run_forked(work, [None], seconds=seconds, total=seconds, turn=seconds)
    return f"{ran.results[0] if ran.results else 't'} {ran.cpu_seconds:.3f}"


def _check_gold(gold: str) -> str:
    """Return "1" if the gold answer can be parsed and compared with a number, else "g"."""
    return "g" if compare(gold, "7") == "g" else "1"


def main() -> None:
    """Serve requests until standard input ends."""
    logging.disable()
    # The first comparison of a kind is slow because it fills tables and imports modules, which the children inherit.
    for pair in _WARM_UP:
        compare(*pair)
    gc.collect()
    gc.freeze()
    serve(_handle, memory_bytes=MEMORY_BYTES)


if __name__ == "__main__":
    main()
