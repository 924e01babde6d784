"""Merging and splitting of calls, with plain tensors."""

import pytest
import torch

from workers.engine.merge_rules import MergeRule, Unmergeable, split

RULE = MergeRule(
    rows="x",
    times=frozenset({"t"}),
    scales=frozenset({"scale"}),
    common=frozenset({"ids"}),
    zeros=frozenset({"extra"}),
    refused=frozenset({"odd"}),
    ignored=frozenset({"generator"}),
)


def call(rows, **more):
    return {"x": torch.full((rows, 2), float(rows)), **more}


def merged(*calls):
    return RULE.merge(calls, [len(one["x"]) for one in calls])


def test_lists_of_layers_and_lists_of_rows_are_not_mixed_up():
    """As many residuals as rows: a ControlNet with four layers in a batch of four rows."""
    layers = [torch.arange(4.0).reshape(4, 1) + 10 * layer for layer in range(4)]
    first, second = split(layers, [1, 3])
    assert [len(part) for part in first] == [1] * 4
    assert second[2].flatten().tolist() == [21, 22, 23]
    assert split([["a", "b", "c", "d"]][0], [1, 3], listed=True) == [["a"], ["b", "c", "d"]]


def test_timesteps_of_all_kinds_become_one_number_per_row():
    found = merged(call(2, t=7), call(1, t=torch.tensor([3.5])), call(1, t=torch.tensor(9)))
    assert found["t"].tolist() == [7, 7, 3.5, 9]
    assert found["x"].shape == (4, 2)
    whole = merged(call(2, t=torch.tensor(999)), call(1, t=torch.tensor(3)))["t"]
    assert (whole.dtype, whole.tolist()) == (torch.float32, [999, 999, 3])
    half = merged(call(1, t=torch.tensor(999)), call(2, t=torch.tensor([0.5, 0.25], dtype=torch.bfloat16)))["t"]
    assert half.tolist() == [999, 0.5, 0.25], "an integer keeps its value beside half precision"


def test_members_without_residuals_get_zeros():
    found = merged(call(1, extra=[torch.ones(1, 3)]), call(2, extra=None), call(1))
    assert found["extra"][0].sum(dim=1).tolist() == [3, 0, 0, 0]


def test_scales_are_per_row():
    assert merged(call(1, scale=0.5), call(2, scale=2.0))["scale"].flatten().tolist() == [0.5, 2, 2]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"t": 1}, {"t": 2}, True),
        ({"ids": torch.zeros(3)}, {"ids": torch.zeros(3)}, True),
        ({"ids": torch.zeros(3)}, {"ids": torch.ones(3)}, False),
        ({"flag": True}, {"flag": False}, False),
        ({"h": torch.zeros(1, 5)}, {"h": torch.zeros(1, 6)}, False),
        ({"h": torch.zeros(1, 5)}, {"h": None}, False),
        ({"d": {"a": torch.zeros(1, 5)}}, {"d": {"a": torch.zeros(1, 5)}}, True),
        ({"generator": object()}, {"generator": None}, True),
    ],
)
def test_who_may_share(one, other, alike):
    assert (RULE.key(call(1, **one)) == RULE.key(call(1, **other))) is alike


@pytest.mark.parametrize(
    "odd", [{"odd": torch.zeros(1)}, {"h": torch.zeros(3, 2)}, {"h": object}, {"h": torch.tensor(1.0)}]
)
def test_what_no_rule_expects_is_never_merged(odd):
    if odd.get("h") is object:
        odd = {"h": {1, 2}}
    with pytest.raises(Unmergeable):
        RULE.key(call(1, **odd))
