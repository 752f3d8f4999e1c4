"""Where a pod may be placed, as the scheduler and Kueue decide it."""

from __future__ import annotations

import pytest

from tspin_cluster.placement import Match, Placement, Toleration

LABELS = {"pool": "train", "gpus": "8"}
TAINT = {"key": "nvidia.com/gpu", "value": "tspin-train", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("key", "operator", "values", "holds"),
    [
        ("pool", "In", ("generate", "train"), True),
        ("pool", "In", ("generate",), False),
        ("zone", "In", ("a",), False),
        ("pool", "NotIn", ("train",), False),
        ("zone", "NotIn", ("a",), True),
        ("pool", "Exists", (), True),
        ("zone", "Exists", (), False),
        ("pool", "DoesNotExist", (), False),
        ("zone", "DoesNotExist", (), True),
        ("gpus", "Gt", ("7",), True),
        ("gpus", "Gt", ("8",), False),
        ("gpus", "Lt", ("9",), True),
        ("zone", "Lt", ("9",), False),
    ],
)
def test_conditions_on_labels(
    key: str, operator: str, values: tuple[str, ...], holds: bool
) -> None:
    match = Match.model_validate({"key": key, "operator": operator, "values": values})
    assert match.holds(LABELS) is holds


def test_a_selector_and_a_condition_must_both_hold() -> None:
    absent = (Match(key="pool", operator="DoesNotExist"),)
    assert Placement(selector={"pool": "train"}).takes(LABELS, [])
    assert not Placement(selector={"pool": "generate"}).takes(LABELS, [])
    assert not Placement(selector={"gpus": "8"}, required=absent).takes(LABELS, [])


@pytest.mark.parametrize(
    ("toleration", "taken"),
    [
        ({"value": "tspin-train"}, True),
        ({"value": "tspin-generate"}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_a_taint_keeps_away_who_does_not_tolerate_it(
    toleration: dict[str, str], taken: bool
) -> None:
    tolerations = (Toleration.model_validate({"key": "nvidia.com/gpu", **toleration}),)
    assert Placement(tolerations=tolerations).takes(LABELS, [TAINT]) is taken
    assert not Placement().takes(LABELS, [TAINT])
    assert Placement().takes(LABELS, [TAINT | {"effect": "PreferNoSchedule"}])


def test_a_flavor_names_some_labels_and_the_others_do_not_matter() -> None:
    placement = Placement(selector={"pool": "train", "zone": "a"})
    assert not placement.takes(LABELS, [])
    assert placement.takes(LABELS, [], known=False)
    assert not placement.takes({"pool": "generate"}, [], known=False)
