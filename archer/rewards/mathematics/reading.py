r"""Parses LaTeX into sympy expressions with math-verify's parser: the whole text, or nothing.

By itself math-verify falls back on the numbers it can find, which made `1+1/\mathrm e` equal 1. Parsing a hostile
text may run for minutes, so call these functions only in a worker (``archer.rewards.workers``).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from typing import Any

from antlr4.atn.PredictionMode import PredictionMode  # type: ignore[import-untyped]
from latex2sympy2_extended import NormalizationConfig, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from latex2sympy2_extended.math_normalization import extract_boxed_content
from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig, parse
from sympy import Basic, Derivative, MatrixBase, nan, zoo  # type: ignore[import-untyped]

from archer.rewards.mathematics.wording import primes

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time-outs are off, which is intended

_CONFIG = NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True, boxed="none")
_PRIMES = re.compile(r"(?<=[a-zA-Z}])(?:\^\s*+(?:\{\s*+)?((?:\\prime\s*)+)\}?|('+))")
_SCIENTIFIC = re.compile(r"(?<![a-zA-Z0-9.\\])([0-9]++(?:\.[0-9]*+)?|\.[0-9]++)[eE]([+-]?[0-9]{1,4})(?![a-zA-Z0-9.])")
# No factor follows: one would make a mixed number a product.
_NO_FACTOR = r"(?![0-9])(?!\s*(?:[a-zA-Z({|!^]|\\(?!cdot|times|div|text|[ ,;])))"
_REPAIRS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (  # constructs that the grammar lacks
        (r"(?<=[{(])([0-9]{1,3}(?:,[0-9]{3})+)(?=[})])", lambda match: match[1].replace(",", "")),
        (r"((?<![a-zA-Z0-9])[a-zA-Z0-9]++|\([^()]*\))!(?=\s*\^)", r"(\1!)"),
        (r"\\(odot|oplus|star|hbar|ell|mho|wp|Re|Im)(?![a-zA-Z])", r"{\\text{\1}}"),
        (r"(?<![\\a-zA-Z])([EeIi])_\s*(?:\{\s*([a-zA-Z0-9]+)\s*\}|([a-zA-Z0-9]))", r"\\text{\1\2\3}"),
        (r"\\frac\s*(\\[a-zA-Z]+)\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}"),
        # A whole number before a fraction is a mixed number; any other juxtaposition is a product.
        (
            rf"(?<![\^_0-9.])([0-9]+)\s*\\frac\s*(?:\{{([0-9]+)\}}\s*\{{([0-9]+)\}}|([0-9])\s*([0-9])){_NO_FACTOR}",
            r"(\1+\\frac{\2\4}{\3\5})",
        ),
        (rf"(?<![\^_0-9.])([0-9]+) ([0-9]+)\s*/\s*([0-9]+){_NO_FACTOR}", r"(\1+\\frac{\2}{\3})"),
        (r"(\\frac\s*\{[^{}]*\}\s*\{[^{}]*\})\s*(?=[0-9.])", r"\1\\cdot "),
        (r"\\binom\s*([0-9a-z])\s*([0-9a-z])", r"\\binom{\1}{\2}"),
        (r"\\log\s*_\s*+(?:\{\s*+)?e\s*\}?(?![a-zA-Z])", r"\\ln "),
        (r"\^\s*\{\s*\\text\{(odot|star)\}\s*\}", r"_{\1}"),
        (r"_\s*\{\s*\{?\\text\{(\w+)\}\}?\s*\}", r"_{\1}"),
        (r"\\(sin|cos|tan|cot|sec|csc)\s*\^\s*\{?2\}?\s*(\\[a-zA-Z]+|[a-zA-Z0-9]+)", r"(\\\1{\2})^2"),
    )
]
_OVER = re.compile(r"(?<=[a-zA-Z0-9)}])\s*/\s*\(([^()]*)\)(?!\s*\^)")
_TWO_NUMBERS = re.compile(r"(?<![\^_0-9])[0-9]+\s+[0-9]+(?:\.[0-9]*)?(?!\s*[/0-9])|[0-9]\.[0-9]*\.[0-9]")
_WARM = r"""\frac{1}{2}
-\frac{3\sqrt{2}}{4}+x^{2}-2x y
\frac{\pi^{2}}{8}-\frac{1}{2}\cdot 3 \times 10^{-5}
2\sin(3t)+\cos x-\tan^{2}\theta
e^{-2t}\left(a+b\right)^{n}
\frac{x_{0}}{r_{1}} (1+r / r_{0})^{3 / 2}
\sqrt[3]{4}\ln 2+\log_{2} n
\frac{n(n+1)(2n+1)}{6}
(1,2]
[0,\infty)
(-\infty,-2)\cup(3,\infty)
\{1,2\}
(1,-2,\frac{3}{4})
x=5
y=-2x+3
x\le 5
0<x<1
x\in[1,2]
f(x)=x+1
\begin{pmatrix} -1/3 \\ 2 \\ x \end{pmatrix}
\binom{n}{2}+n!
\lfloor\frac{n}{2}\rfloor+|x-1|
\frac{dx}{dt}+\omega y=0
\sum_{k=0}^{n} k
\text{east}
2+3i
0.5
12:30
5x-7y+11z+4=0
\frac{e^{-2t}}{15}+C_{1} e^{t}-C_{2} \cos (t)
\left(\frac{t^{2}}{2}-t+C\right) e^{-t}
(0,5) \cup [5,\infty)
\{-1\}\cup[0,7)
\begin{pmatrix} \frac{1}{2} & 0 & -\frac{\sqrt{3}}{2} \\ 0 & 1 & 2 \end{pmatrix}
c x^{-2}-\frac{\cos (2 x)}{2 x^{2}}
-\frac{1}{2} X^{-\frac{1}{2}}+0.5
(1-3e^{-2t}+2e^{-5t}) u(t)
\frac{2 \pi c^{2} R^{2}}{\lambda^{5}\left(e^{\frac{hc}{\lambda k T}}-1\right)}
\arcsin(1.3\sin(\theta_w))
\sqrt{\sqrt{11}+\sqrt{194}}-\log_{10} 250
x^2+y^2-4=0
2^{n+1}-n-10^{100}
\frac{1}{2}(e^{at}+e^{-at})
(a+5)(b+2)+\pi r^2 h
\frac{\frac{1}{2}}{3}\cdot(-2)
(2,-\sqrt{3})
(x+1)/2
1+
a b c"""


_CONVERSIONS = {cased: ConversionConfig(lowercase_symbols=not cased) for cased in (False, True)}


class _Converter(_Latex2Sympy):  # type: ignore[misc]
    """Reads juxtaposition as a product; latex2sympy reads 2(3) as the mixed number 2+3."""

    def convert_postfix_list(self, arr: Any, i: int = 0) -> Any:
        first = self.convert_postfix(arr[i])
        if i == len(arr) - 1 and not isinstance(first, list):
            return first
        rest = self.convert_postfix_list(arr, i + 1)
        if isinstance(first, list):
            return Derivative(rest, first[0])
        matrices = any(getattr(factor, "is_Matrix", False) for factor in (first, rest))
        return self.mat_mul_flat(first, rest) if matrices else self.mul_flat(first, rest)


class _Quick(_Converter):
    """Parses in ANTLR's SLL mode, which is several times faster: it gives the same tree or fails."""

    def create_parser(self, latex_str: str) -> Any:
        parser = super().create_parser(latex_str)
        parser._interp.predictionMode = PredictionMode.SLL
        return parser


class UnreadableError(ValueError):
    """The text is not one piece of mathematics."""


@functools.lru_cache(maxsize=8192)  # the gold of a problem is read once for all its samples
def read(text: str, cased: bool = False) -> Basic | MatrixBase:
    """Return the expression that the whole text denotes; ``cased`` tells R from r. Raises UnreadableError."""
    if _TWO_NUMBERS.search(text):
        raise UnreadableError(text)
    latex = parsed(text)
    try:
        try:
            expression = _Quick(is_real=True, config=_CONVERSIONS[cased]).parse(latex)
        except MemoryError:
            raise
        except Exception:
            expression = _Converter(is_real=True, config=_CONVERSIONS[cased]).parse(latex)
    except MemoryError:
        raise
    except Exception as error:  # the parser's own, RecursionError, many kinds of sympy's
        raise UnreadableError(text) from error
    if not isinstance(expression, Basic | MatrixBase) or expression.has(nan, zoo):
        raise UnreadableError(text)
    return expression


@functools.lru_cache(maxsize=8192)
def parsed(text: str) -> str:
    """Return what the parser gets of a text."""
    for pattern, replacement in _REPAIRS:
        text = pattern.sub(replacement, text)
    text = _SCIENTIFIC.sub(r"(\1 \\cdot 10^{\2})", text)
    text = _OVER.sub(r"\\cdot\\frac{1}{\1}", text)
    text = _PRIMES.sub(lambda mark: f"_{{{'q' * primes(mark[0])}}}", text)
    return str(normalize_latex(text, _CONFIG))


def locate(text: str, kinds: tuple[str, ...]) -> str | None:
    """Return the answer in a text without a box as math-verify finds it: after "final answer is", or the last one."""
    configs = {"latex": LatexExtractionConfig(), "expr": ExprExtractionConfig()}
    answers = parse(text, [configs[kind] for kind in kinds if kind in configs], parsing_timeout=None)
    return str(answers[-1]) if answers else None


@functools.lru_cache(maxsize=4096)
def told(solution: str) -> str:
    r"""Return the answer of a worked solution that serves as gold: its last boxes, or its last formula."""
    if r"\boxed" in solution:
        inside = str(extract_boxed_content(solution, mode="last"))
        inside = inside.removeprefix("{") if inside.count("{") > inside.count("}") else inside
        if not inside.strip():
            return solution
        return inside + (r"\%" if re.match(r"[\s$}]*(?:\\?%|percent)", solution.rpartition(inside)[2]) else "")
    return locate(solution, ("latex", "expr")) or solution


def warm() -> None:
    """Parse samples of every construct: the parser builds its tables on first use, which takes most of the time.

    This takes 1.5 s, once per run: workers are forked from the process that has done it.
    """
    for text in _WARM.split("\n"):
        with contextlib.suppress(UnreadableError):
            read(text)
