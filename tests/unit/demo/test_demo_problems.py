import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin.demo.problems import TOTAL_RANGE, distinct_problems, split_of

ANNOTATION = re.compile(
    r"(\d+) ([+-]) (\d+) = (\d+)\. So (\d+) ([+-]) (\d+) = (\d+)\. So (\d+) ([+-]) (\d+) = (\d+)\."
    r" The answer is (\d+)\."
)


def test_the_first_problem_is_known_word_for_word():
    problem = distinct_problems(0, "train", 1)[0]
    assert problem.prompt == (
        "Omar starts with 29 tiles. First Omar swaps away 2, next loses 3, last parts with 7."
        " How many?"
    )
    assert problem.annotation == ("29 - 2 = 27. So 27 - 3 = 24. So 24 - 7 = 17. The answer is 17.")


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_annotation_is_right_by_independent_arithmetic(split):
    for problem in distinct_problems(0, split, 1024):
        match = ANNOTATION.fullmatch(problem.annotation)
        assert match is not None, problem.annotation
        fields = match.groups()
        total = problem.start
        for step, change in zip(range(0, 12, 4), problem.changes, strict=True):
            left, sign, amount, result = fields[step : step + 4]
            assert int(left) == total
            total = total + int(amount) if sign == "+" else total - int(amount)
            assert (sign == "+") == (change.amount > 0)
            assert int(result) == total
            assert TOTAL_RANGE[0] <= total <= TOTAL_RANGE[1]
        assert int(fields[12]) == total


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_prompt_tells_its_numbers_in_order(split):
    for problem in distinct_problems(0, split, 256):
        told = [int(number) for number in re.findall(r"\d+", problem.prompt)]
        assert told == [abs(number) for number in problem.numbers]


def test_train_and_heldout_share_no_numbers_and_no_prompts():
    train = distinct_problems(0, "train", 1024)
    heldout = distinct_problems(0, "heldout", 256)
    assert not {problem.numbers for problem in train} & {problem.numbers for problem in heldout}
    assert not {problem.prompt for problem in train} & {problem.prompt for problem in heldout}
    assert len({problem.numbers for problem in train}) == 1024
    assert len({problem.numbers for problem in heldout}) == 256


@given(seed=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_the_splits_are_disjoint_whatever_the_seeds(seed, other):
    train = {problem.numbers for problem in distinct_problems(seed, "train", 20)}
    heldout = {problem.numbers for problem in distinct_problems(other, "heldout", 20)}
    assert {split_of(numbers) for numbers in train} == {"train"}
    assert {split_of(numbers) for numbers in heldout} == {"heldout"}


def test_the_same_seed_gives_the_same_problems_and_another_seed_others():
    assert distinct_problems(3, "train", 50) == distinct_problems(3, "train", 50)
    assert distinct_problems(3, "train", 50) != distinct_problems(4, "train", 50)


def test_fewer_problems_are_the_first_of_more():
    assert distinct_problems(0, "train", 100)[:10] == distinct_problems(0, "train", 10)
