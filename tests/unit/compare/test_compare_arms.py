"""What can be compared, and what is refused."""

import pytest

from tspin.compare import parse_arms
from tspin.errors import InputError


def test_methods_with_and_without_a_share() -> None:
    arms = parse_arms(["tspin@0.25", " sft", "sft_matched@0.25"])
    told = [(arm.method, arm.share, arm.matched, arm.plays) for arm in arms]
    assert told == [
        ("tspin", 0.25, False, True),
        ("sft", 1.0, False, False),
        ("sft", 0.25, True, False),
    ]


def test_a_label_tells_settings_of_one_method_apart() -> None:
    plain, labelled = parse_arms(["tspin@0.25", "with_nll=tspin@0.25"])
    assert (plain.name, labelled.name) == ("tspin@0.25", "with_nll")
    assert (labelled.method, labelled.share, labelled.plays) == ("tspin", 0.25, True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a=tspin", "a=spin"], "'a' is given twice"),
        (["../a=tspin", "sft"], "the label is '../a'"),
        (["sft=tspin", "sft"], "the label is 'sft'"),
        (["=tspin", "sft"], "the label is ''"),
        (["a=b=tspin", "sft"], "the label is 'a=b'"),
        (["tspin"], "at least two"),
        (["tspin", "tspin@1.0"], "'tspin@1.0' is given twice"),
        (["tspni", "sft"], "did you mean 'tspin'"),
        (["tspin@0", "sft"], "share of the annotated records is '0'"),
        (["tspin@a", "sft"], "share of the annotated records is 'a'"),
        (["tspin@1.5", "sft"], "share of the annotated records is '1.5'"),
        (["tspin", "sft_matched@0.5"], "compute of the self-play methods on the same share"),
    ],
)
def test_what_cannot_be_compared_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_arms(names)


@pytest.mark.parametrize("share", ["", "@0.25"])
def test_the_field_stands_for_its_methods_the_control_first(share: str) -> None:
    arms = parse_arms([f"field{share}", "tspin_all"])
    methods = ["sft_matched", "sft", "rft", "spin", "tspin", "space", "sdft"]
    assert [arm.name for arm in arms] == [*(f"{name}{share}" for name in methods), "tspin_all"]
    assert [arm.matched for arm in arms] == [True, *[False] * 7]


def test_the_field_and_one_of_its_methods_are_one_too_many() -> None:
    with pytest.raises(InputError, match="'tspin' is given twice"):
        parse_arms(["field", "tspin"])
    with pytest.raises(InputError, match="share of the annotated records is '2'"):
        parse_arms(["field@2"])
