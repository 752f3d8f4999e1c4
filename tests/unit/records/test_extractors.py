"""Extractors: what each finds, what it leaves alone, and when two answers agree."""

import doctest
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tspin.records.extractors
from tspin.errors import InputError
from tspin.records.extractors import EXTRACTORS, find_extractor

CASES = [
    ("gsm8k", "She sold 48/2 = <<48/2=24>>24 clips.\n#### 72", "72"),
    ("gsm8k", "#### 1,234", "1234"),
    ("gsm8k", "#### $18.00", "18"),
    ("gsm8k", "####-5", "-5"),
    ("gsm8k", "#### \u22127", "-7"),
    ("gsm8k", "#### 3\n\nQuestion: another?\n#### 4", "3"),
    ("gsm8k", "The answer is 72.", None),
    ("gsm8k", "#### unknown", None),
    ("gsm8k", "### 72", None),
    ("answer_is", "So 3 + 4 = 7. The answer is 7.", "7"),
    ("answer_is", "the answer is: $1,000,000.50", "1000000.5"),
    ("answer_is", "The answer is 4. The answer is 5.", "4"),
    ("answer_is", "The answer is unclear, perhaps 7.", None),
    ("answer_is", "#### 7", None),
    ("boxed", r"so $\boxed{42}$", "42"),
    ("boxed", r"\boxed{1}, no: \boxed{ 1,024.0 }", "1024"),
    ("boxed", r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    ("boxed", r"\boxed{ \frac{1} {2} }", r"\frac{1}{2}"),
    ("boxed", r"\fbox{x^{2}}", "x^{2}"),
    ("boxed", r"\boxed{7} and then \boxed{8", "7"),
    ("boxed", r"\boxed{}", None),
    ("boxed", "boxed{7}", None),
    ("last_number", "7-2", "2"),
    ("last_number", "x = -2", "-2"),
    ("last_number", "from 3 to 1,2", "2"),
    ("last_number", "costs $0.50.", "0.5"),
    ("last_number", "version 1.2.3", "3"),
    ("last_number", "none at all ...", None),
    ("exact", "<think>\n2 + 3 = 5\n</think>\n\n5", "5"),
    ("exact", "2 + 3 = 5\n</think>\n\n5", "5"),  # The prompt has opened the thought.
    ("exact", "<think>2 + 3 = ", None),
    ("last_number", "[THINK]2 + 3 = 5[/THINK]None.", None),
    ("gsm8k", "<think>#### 6, no</think>#### 5", "5"),
    ("exact", "  a \n b\t c ", "a b c"),
    ("exact", " \n ", None),
]


@pytest.mark.parametrize(("name", "text", "answer"), CASES)
def test_an_extractor_finds(name: str, text: str, answer: str | None) -> None:
    assert find_extractor(name)(text) == answer


def test_the_examples_in_the_docstrings_hold() -> None:
    results = doctest.testmod(tspin.records.extractors)
    assert results.attempted >= 4
    assert results.failed == 0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Parts: 4 and 13. 4 + 13 = 17", "17"),
        ("10 - 3 = 7, so 7 + 2 = 9.", "9"),
        ("10 - 3 = 8, so 7 + 2 = 9.", None),
        ("2 - 5 = 3", None),
        ("x = 3", None),
        ("1 + 1", None),
    ],
)
def test_an_equation_counts_if_every_one_holds(text: str, answer: str | None) -> None:
    assert find_extractor("equation")(text) == answer


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'gms8k'; did you mean 'gsm8k'\?.*last_number"):
        find_extractor("gms8k")


def test_a_name_near_nothing_lists_them_all() -> None:
    with pytest.raises(InputError) as refused:
        find_extractor("zzzz")
    assert "did you mean" not in str(refused.value)
    assert all(name in str(refused.value) for name in EXTRACTORS)


@given(st.integers(), st.sampled_from(["gsm8k", "answer_is", "boxed", "last_number"]))
def test_an_integer_is_the_same_answer_however_it_is_written(number: int, name: str) -> None:
    around = {"gsm8k": "#### {}", "answer_is": "The answer is {}.", "boxed": r"\boxed{{{}}}"}
    spellings = [f"{number}", f"{number:,}", f"{number}.0", f"{number:,}.00"]
    found = {find_extractor(name)(around.get(name, "= {}").format(text)) for text in spellings}
    assert found == {str(number)}


@given(st.text(), st.sampled_from(sorted(EXTRACTORS)))
def test_no_text_breaks_an_extractor(text: str, name: str) -> None:
    answer = find_extractor(name)(text)
    assert answer is None or answer.strip()


def test_long_texts_take_linear_time() -> None:
    """Minutes if any rule were quadratic: model output is not to be trusted."""

    def once(size: int) -> float:
        begin = time.process_time()
        for text in (
            "1+" * size,
            "1 " * size,
            "1 + 2 = " + "3" * (size // 40),
            "1," * size,
            "-" * size,
            "1" * 2 * size,
            r"\boxed{" * (size // 4),
            "#" * 2 * size,
        ):
            for extractor in EXTRACTORS.values():
                extractor(text)
        return time.process_time() - begin

    def seconds(size: int) -> float:
        # The least: other work on the machine can only add to it.
        return min(once(size) for _ in range(3))

    # Four times the text takes four times as long, on a machine of any speed; sixteen times if it
    # grew with the square.
    assert seconds(200_000) < 10 * seconds(50_000)
