import random
import re

import pytest

from tspin.demo.corpus import WORDINGS, corpus_head, slipped_totals
from tspin.demo.problems import GAINS, LOSSES, distinct_problems, split_of

SIZE = 20_000
STYLE = re.compile(r"\bso\b|\banswer\b", re.IGNORECASE)
STEP = re.compile(r"(\d+) ([+-]) (\d+) = (\d+)")
CHANGE = re.compile(rf"({'|'.join(sorted(GAINS + LOSSES, key=len, reverse=True))}) (\d+)")


@pytest.fixture(scope="module")
def examples():
    return corpus_head(0, SIZE)


def test_the_search_for_the_style_finds_it_in_an_annotation():
    (problem,) = distinct_problems(0, "train", 1)
    assert len(STYLE.findall(problem.annotation)) == 3


def test_the_annotation_style_never_occurs(examples):
    assert not [e for e in examples if STYLE.search(e.response) or STYLE.search(e.prompt)]


def test_no_wording_can_write_the_annotation_style():
    for problem in distinct_problems(1, "train", 300):
        for wording in WORDINGS:
            text = wording(problem, problem.totals, random.Random(problem.start))
            assert not STYLE.search(text)
            assert text != problem.annotation


def told_numbers(prompt):
    changes = [
        int(amount) if verb in GAINS else -int(amount) for verb, amount in CHANGE.findall(prompt)
    ]
    return (int(re.search(r"\d+", prompt).group()), *changes)


def test_heldout_numbers_never_occur(examples):
    (problem,) = distinct_problems(0, "heldout", 1)
    assert split_of(told_numbers(problem.prompt)) == "heldout"
    told = [told_numbers(example.prompt) for example in examples]
    assert {len(numbers) for numbers in told} == {4}
    assert {split_of(numbers) for numbers in told} == {"train"}


def test_most_steps_are_right_and_some_slip(examples):
    right = wrong = 0
    for example in examples:
        for left, sign, amount, result in STEP.findall(example.response):
            total = int(left) + (int(amount) if sign == "+" else -int(amount))
            right += total == int(result)
            wrong += total != int(result)
    assert 0.02 < wrong / (right + wrong) < 0.06


def test_bare_answers_and_skipped_steps_occur(examples):
    steps = [len(STEP.findall(example.response)) for example in examples]
    bare = sum(bool(re.fullmatch(r"\d+\.?", example.response)) for example in examples)
    assert bare / SIZE > 0.01
    for count in (0, 1, 2, 3):
        assert steps.count(count) / SIZE > 0.03


def test_without_slips_the_totals_are_the_problems():
    for problem in distinct_problems(0, "train", 200):
        assert slipped_totals(problem, random.Random(0), rate=0.0) == list(problem.totals)
        assert slipped_totals(problem, random.Random(0), rate=1.0) != list(problem.totals)


def test_the_corpus_is_deterministic(examples):
    assert corpus_head(0, 200) == examples[:200]
    assert corpus_head(1, 200) != examples[:200]
