"""Named rules that find the verifiable answer in a response.

Each takes a text and returns the answer in one canonical spelling, or None where it finds none,
so that two answers agree when their strings are equal: `1,234.50` and `$1234.5` are the same.
What a model thought before it answered is no part of its answer.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tspin.errors import InputError

__all__ = ["END_OF_THOUGHT", "EXTRACTORS", "Extractor", "after_thought", "find_extractor"]

Extractor = Callable[[str], str | None]

# A minus sign counts only where it cannot be a subtraction: "7-2" holds 7 and 2, not -2.
_NUMBER = (
    r"(?:(?<![\w)])[-\u2212])?\$?"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
)
_ANY_NUMBER = re.compile(_NUMBER)
_GSM8K = re.compile(rf"####\s*({_NUMBER})")
_ANSWER_IS = re.compile(rf"\bthe answer is:?\s*({_NUMBER})", re.IGNORECASE)
# Possessive, and never from within a number: the time is linear in the text.
_EQUATION = re.compile(r"((?<![0-9])[0-9]++(?: *+[+-] *+[0-9]++)++)(?: *+= *+([0-9]++))?+")
_TOO_LONG = re.compile(r"[0-9]{100}")
"""Python itself refuses to read integers of thousands of digits."""
END_OF_THOUGHT = re.compile(r"</think>|<channel\|>|\[/THINK\]")
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")


def gsm8k(text: str) -> str | None:
    r"""The number after the first `####`, as GSM8K's own `extract_answer` takes it.

    Example:
        >>> gsm8k("48 + 24 = 72 clips.\n#### 72")
        '72'
    """
    match = _GSM8K.search(text)
    return _canonical_number(match[1]) if match else None


def answer_is(text: str) -> str | None:
    """The number after the first "The answer is", in any case, with or without a colon.

    Example:
        >>> answer_is("So 3 + 4 = 7. The answer is $7.00.")
        '7'
    """
    match = _ANSWER_IS.search(text)
    return _canonical_number(match[1]) if match else None


def boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}`, braces balanced, spaces and `$` left out.

    Example:
        >>> boxed(r"Hence $x = \boxed{\frac{1}{2}}$.")
        '\\frac{1}{2}'
    """
    open_braces: list[int | None] = []  # Where a box's content begins; None for other braces.
    start, answer = -1, None
    for token in _BOX_OR_BRACE.finditer(text):
        if token[0] != "}":
            open_braces.append(token.end() if len(token[0]) > 1 else None)
        elif open_braces and (begin := open_braces.pop()) is not None and begin > start:
            start, answer = begin, text[begin : token.start()]
    if answer is None:
        return None
    plain = re.sub(r"\s|\$|\\[,!;]", "", answer)
    return _canonical_number(plain) if _ANY_NUMBER.fullmatch(plain) else plain or None


def last_number(text: str) -> str | None:
    """The last number anywhere in the text: lenient, and easily right by chance.

    Example:
        >>> last_number("She has 1,200 left, not 7-2.50.")
        '2.5'
    """
    numbers = _ANY_NUMBER.findall(text)
    return _canonical_number(numbers[-1]) if numbers else None


def exact(text: str) -> str | None:
    """The whole response, each run of whitespace as one space; None if nothing is left."""
    return " ".join(text.split()) or None


def equation(text: str) -> str | None:
    """What the last sum or difference of whole numbers comes to, if every such equation holds.

    For prompts with many right answers, such as "Split 17 into three parts": all right ones give
    the same number.

    Example:
        >>> equation("Parts: 4 and 13. 4 + 13 = 17"), equation("4 + 12 = 17")
        ('17', None)
    """
    equations = [(left, right) for left, right in _EQUATION.findall(text) if right]
    if any(_TOO_LONG.search(left + " " + right) for left, right in equations):
        return None
    holds = all(str(_value(left)) == _canonical_number(right) for left, right in equations)
    return _canonical_number(equations[-1][1]) if equations and holds else None


EXTRACTORS: Mapping[str, Extractor] = MappingProxyType(
    {
        "gsm8k": gsm8k,
        "answer_is": answer_is,
        "boxed": boxed,
        "last_number": last_number,
        "equation": equation,
        "exact": exact,
    }
)
"""Name, as in `evaluate.extractors`, to rule."""


def find_extractor(name: str) -> Extractor:
    """The rule of that name, for what a response says after its thought.

    Raises:
        InputError: there is none; the message names the nearest and lists all.
    """
    if name in EXTRACTORS:
        rule = EXTRACTORS[name]
        return lambda text: rule(after_thought(text))
    close = difflib.get_close_matches(name, EXTRACTORS, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"no extractor is named {name!r}; {hint}the names are: {', '.join(EXTRACTORS)}"
    )


def after_thought(text: str) -> str:
    """What stands behind the last tag that ends a thought; nothing where a thought has no end.

    Example:
        >>> after_thought("<think>2 and 2</think>4"), after_thought("<think>2 and")
        ('4', '')
    """
    *thought, said = END_OF_THOUGHT.split(text)
    return "" if not thought and said.lstrip().startswith(("<think>", "[THINK]")) else said


def _value(terms: str) -> int:
    return sum(int(term) for term in re.findall(r"[+-]?[0-9]+", terms.replace(" ", "")))


def _canonical_number(text: str) -> str:
    # By hand, not through float or Decimal contexts: an answer of 40 digits stays exact.
    digits = text.replace(",", "").replace("$", "").replace("\u2212", "-")
    whole, _, fraction = digits.removeprefix("-").partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    return f"-{number}" if digits.startswith("-") and number != "0" else number
