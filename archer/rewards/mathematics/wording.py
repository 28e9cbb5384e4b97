r"""What surrounds a value: LaTeX's spaces and sizes, Unicode forms, words. Pure text."""

from __future__ import annotations

import functools
import re
import unicodedata

from archer.rewards.mathematics.answers import enclosed

_UNICODE = {
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ",
    "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "°": r"^\circ",
    "∅": r"\emptyset ", "±": r"\pm ", "≈": r"\approx ", "…": r"\ldots ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "\u200b": "", "\ufeff": "",
}  # fmt: skip
TEXT_COMMAND = r"\\(?:text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathit|mbox|hbox|operatorname|rm|bf)\s*"
_LAST_DIGIT = re.compile(r"[0-9][^0-9a-zA-Z]*+$")


def _without_text(match: re.Match[str]) -> str:
    r"""Return the 1, 2 of \text{(1, 2)}: what is set as text but ends with a number, as no letter follows a digit."""
    inside = match[1].lstrip().removeprefix("(")
    return inside.rstrip().removesuffix(")") if _LAST_DIGIT.search(inside) else match[0]


_EXPONENT = r"(?:\^\s*\{?[0-9]\}?)?"
_SAME = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|mathstrut|nolimits)(?![a-zA-Z])\.?", ""),
        (r"\{,\}|,\\!\s*", ","),
        (r"\\!", ""),
        (r"\\\$|\$|\\[()](?!\w)|\\\(|\\\)", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])|\\q(?:uad)?(?=x_)", " "),
        (r"\\[dtc](frac|binom)(?![a-zA-Z])", r"\\\1"),
        (rf"({TEXT_COMMAND}\{{[^{{}}]*\^)\{{(-?[0-9])\}}", r"\1\2"),
        (rf"\\frac\s*\{{\s*({TEXT_COMMAND}\{{[^{{}}]*\}})\s*\}}\s*\{{\s*({TEXT_COMMAND}\{{[^{{}}]*\}}{_EXPONENT})\s*\}}",
         r"\1/\2"),
        (r"\\(?:lbrace|lcurly)(?![a-zA-Z])", r"\\{"),
        (r"\\(?:rbrace|rcurly)(?![a-zA-Z])", r"\\}"),
        (r"\\(?:text|mathrm|textrm|mbox|operatorname|mathit)\s*\{\s*([ei])\s*\}|\\(?:mathrm|rm)\s+([ei])(?![a-zA-Z])",
         r"{\1\2}"),
        (r"\\(?:leq?slant|leq)(?![a-zA-Z])|<=", r"\\le "),
        (r"\\(?:geq?slant|geq)(?![a-zA-Z])|>=", r"\\ge "),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\neq(?![a-zA-Z])|!=", r"\\ne "),
        (r"\^\s*+(?:\{\s*+)?\\(?:circ|degree)\s*\}?|\\degree(?![a-zA-Z])", r"^\\circ "),
        (r"(?<=[0-9])\.(?=\s*[/*+)^}-])", ""),
        (rf"^{TEXT_COMMAND}\{{([^{{}}]*)\}}$", _without_text),
        (rf"^{TEXT_COMMAND}\{{\s*([+-]?[0-9][0-9.,:/]*)(\s+[a-zA-Z][^{{}}0-9]*)\}}$", r"\1\\text{\2}"),
        (rf"^{TEXT_COMMAND}\{{\s*[aA]ll real(?: numbers?| values)?\s*\}}$", r"\\mathbb{R}"),
        (r"\\\{\s*\\\}", r"\\emptyset "),
        (r":=", "="),
        (r"\{(?=[^{}]*\})([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}", r"\\binom{\1}{\2}"),
        (r"\\(?:text)?color\s*\{[a-zA-Z]+\}|\\(?:underline|boldsymbol|bm|mathbf)(?=\s*\{[0-9])", ""),
        (r"\*\*", "^"),
        (r"(?<![\\a-zA-Z{])(pi|sin|cos|tan|cot|sec|csc|ln|log|exp|arcsin|arccos|arctan|sinh|cosh|tanh)(?![a-zA-Z])",
         r"\\\1 "),
    )
]  # fmt: skip
_LINE = re.compile(r"\\\\(?=[a-zA-Z])")
_RAISED, _LOWERED = re.compile("[⁰¹²³⁴-⁹]"), re.compile("[₀-₉]")
_SPACES = re.compile(r"\s+")
_IDLE_SPACE = re.compile(r"(?<![a-zA-Z0-9,;]) | (?![a-zA-Z0-9])|(?<=[0-9]) (?=[a-zA-Z])")
TEXT = re.compile(rf"{TEXT_COMMAND}\{{([^{{}}]*)\}}")
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_WORDS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]+(?:'[a-z]+)?")
_MARKS = re.compile(r"[^\w\s]|_")
_HYPHEN = re.compile(r"(?<=[a-zA-Z]{3})-(?=[a-zA-Z])|(?<=[a-zA-Z])-(?=[a-zA-Z]{3})")
_NO_WORDS = re.compile(r"[0-9\\^=<>+*/|{}_!\[\]%&-]|'(?![a-z])")
_PRODUCT = re.compile(r"[a-zA-Z)]\(|\)[a-zA-Z]")
_MIXED_CASE = re.compile(r"\b[a-zA-Z]*[a-z][A-Z]|\b[A-Z]{2,}[a-z]")

# Words by which a value is not, or not certainly, the answer.
DOUBT = frozenset({
    "not", "no", "maybe", "perhaps", "possibly", "probably", "likely", "unless", "except", "than", "least", "most",
    "so", "thereabouts", "think",
    "wrong", "incorrect", "false", "neither", "nor", "but", "if", "any", "anything", "alternatively", "guess",
    "unsure", "could", "might", "ignore", "never", "isn't", "other", "more", "less", "fewer", "above", "below",
    "between",
})  # fmt: skip
_LEAD = (
    r"(?:(?:the|my|our|final|correct|answer|result|solution|value|is|are|equals?|exactly|only|about|approximately|roughly"
    r"|either|total|of|so|thus|therefore|hence|and)\b[\s:,]*)+"
)
_LEADS, _LEAD_ALONE = re.compile(_LEAD + r"(?=[^\sa-zA-Z])", re.IGNORECASE), re.compile(_LEAD, re.IGNORECASE)
_INTRODUCES = re.compile(r"[^0-9]*(?:\b(?:is|are|equals|be)\s*|[:=]\s*)")
_ABOUT = re.compile(r"^\s*(?:\\(?:approx|sim|simeq)(?![a-zA-Z])|=|:)\s*")
FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln",
    "exp", "sqrt", "max", "min", "gcd", "lcm", "mod", "pi", "inf", "infty", "oo", "infinity", "and", "or", "det",
    "lim", "floor", "ceil", "frac", "cdot", "times",
})  # fmt: skip
_POSED = re.compile(
    r"\\(?:sum|prod|i*nt|oint|lim|gcd|lcm|det|bmod|pmod|mod|frac\s*\{\s*d\s*\}\s*\{\s*d\w\s*\}|(?:max|min|sup|inf)(?=\s*(?:\(|\\?\{))"
    r"|[hv]?phantom|[bx]?cancel|sout|begin\s*\{[vV]matrix\}|operatorname\s*\{\s*(?:gcd|lcm|mod|rank|tr|trace|det"
    r"|norm|rref|nullspace|eye|zeros|ones|diag|diagonalize|cols|rows|eig\w*|[hv]stack|orth\w*|svd|SVD)\s*\})(?![a-zA-Z])"
    r"|\|\s*(?:\\begin|_)"
)
_DOTS = re.compile(r"\\(?:[lcv]|d|dots[bcmio])?dots(?![a-zA-Z])|\.\.\.+")


@functools.lru_cache(maxsize=4096)
def tidy(text: str) -> str:
    """Normalize a text: one space, one way to write a fraction, no dollars, no sizes of brackets."""
    for old, new in _UNICODE.items():
        text = text.replace(old, new)
    text = _RAISED.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]), text)
    text = _LOWERED.sub(lambda match: "_" + unicodedata.normalize("NFKC", match[0]), text)
    text = unicodedata.normalize("NFKC", text).strip(' *`"\n\t')
    if "begin" not in text:  # in a matrix a line's end may stand before a letter
        text = _LINE.sub(r"\\", text)
    for pattern, replacement in _SAME:
        text = pattern.sub(replacement, text)
    text = _SPACES.sub(" ", text).strip(' *`"')
    text = _IDLE_SPACE.sub("", text) if "text" not in text else text
    text = re.sub(r"(?<!\.)[.,;:]$", "", text)
    for _ in range(3):
        braces = enclosed(text)
        text = braces[1] if braces and braces[0] == "{}" else text
    return text


@functools.lru_cache(maxsize=4096)
def squeezed(text: str) -> str:
    """Return a tidy text without the spaces and braces that LaTeX does not need, to find texts identical."""
    text = tidy(text)
    if "text" in text:
        return text
    text = re.sub(r"(?<![\\a-zA-Z])([a-zA-Z]) (?=[a-zA-Z](?![a-zA-Z]))", r"\1", text)
    return re.sub(r"([_^])\{(\w)\}", r"\1\2", re.sub(r"(?<![a-zA-Z0-9]) | (?![a-zA-Z0-9])", "", text))


def without_lead(text: str) -> str:
    """Remove "the answer is", "approximately" and the like before a value."""
    text = _ABOUT.sub("", text)
    opened = TEXT.match(text)
    if opened and (_LEAD_ALONE.fullmatch(opened[1].strip()) or _INTRODUCES.fullmatch(opened[1])):
        text = text[opened.end() :]
    lead = _LEADS.match(text)
    return _ABOUT.sub("", text[lead.end() :] if lead else text).strip()


def words(text: str) -> list[str]:
    r"""Return the words of a text, lower-case; not its \commands."""
    return [word.lower() for word in _WORDS.findall(TEXT.sub(r" \1 ", text))]


def phrase(text: str) -> str:
    """Return the words of a text that is prose; the empty string for mathematics such as xy or a-b."""
    prose = spoken(text)
    mathematical = _PRODUCT.search(text) or not re.search(r"[a-zA-Z]{3}|^no$", prose)
    return "" if len(prose) > 1 and mathematical and not TEXT.search(text) else prose


def spoken(text: str) -> str:
    """Return the words of a text that may be prose, else the empty string.

    A single letter keeps its case: it may be a choice or a name.
    """
    inner = _HYPHEN.sub(" ", TEXT.sub(r" \1 ", text))
    if _NO_WORDS.search(inner) or not re.search(r"[A-Za-z]", inner):
        return ""
    plain = _SPACES.sub(" ", _MARKS.sub(" ", inner)).strip()
    if len(plain) == 1:
        return plain if inner.strip(" ().:") == plain else ""  # not y' for y
    return re.sub(r"^(?:an?|the) (?=\w)", "", plain if _MIXED_CASE.search(plain) else plain.lower())


def is_phrase(text: str) -> bool:
    """Return whether a gold is compared as words: it is set as text, or has several words."""
    prose = phrase(text)
    return bool(prose) and (TEXT.search(text) is not None or " " in prose)


def primes(mark: str) -> int:
    r"""Return how many primes a mark has, written ``^{\prime\prime}`` or ``''``."""
    return mark.count("prime") or mark.count("'")


def poses(text: str) -> frozenset[str]:
    """Return the operators of a text that leave work undone or hidden: sums, integrals, limits, phantoms."""
    return frozenset(match.group() for match in _POSED.finditer(text))


def dots(text: str) -> re.Match[str] | None:
    """Return the first ellipsis, or None."""
    return _DOTS.search(text)
