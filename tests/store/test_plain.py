from __future__ import annotations

import math

import numpy
import pytest
import torch

from reinvest.core.errors import InvalidValue
from reinvest.store.plain import canonical, identity_of, number, plain


def test_plain_turns_tuples_and_scalars_into_json_values() -> None:
    value = {"a": (1, 2.5), "b": numpy.float32(0.5), "c": torch.tensor(3), "d": None, "e": True}
    assert plain(value) == {"a": [1, 2.5], "b": 0.5, "c": 3, "d": None, "e": True}


def test_plain_writes_what_is_not_finite_as_none_or_refuses_it() -> None:
    assert plain([math.nan, math.inf]) == [None, None]
    with pytest.raises(InvalidValue, match=r"config\['lr'\] must be finite, got nan"):
        plain({"lr": math.nan}, "config", finite=True)


@pytest.mark.parametrize("value", [object(), {1: 2}, lambda: 0, torch.zeros(2), {"a": {1, 2}}])
def test_plain_refuses_what_json_cannot_hold(value: object) -> None:
    with pytest.raises(InvalidValue):
        plain(value)


def test_canonical_text_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": [1.5, "ü"]}) == '{"a":[1.5,"ü"],"b":1}' == canonical({"a": [1.5, "ü"], "b": 1})


def test_identity_changes_with_everything_decided_before_training() -> None:
    base = identity_of("mine", "digits", {"lr": 0.1}, 0, [])
    # Pinned: another hash would orphan every stored run.
    assert base == "80bfa96b84c36ee1ee0cf1d20c71299c4b749221d6d4a0d2d7597c66b6aa4cec"
    others = [
        identity_of("other", "digits", {"lr": 0.1}, 0, []),
        identity_of("mine", "mnist", {"lr": 0.1}, 0, []),
        identity_of("mine", "digits", {"lr": 0.2}, 0, []),
        identity_of("mine", "digits", {"lr": 0.1}, 1, []),
        identity_of("mine", "digits", {"lr": 0.1}, 0, ["x"]),
    ]
    assert len({base, *others}) == 6
    assert identity_of("m", "t", {}, 0, ["x", "y"]) == identity_of("m", "t", {}, 0, ["y", "x"])


def test_number_takes_one_element_and_refuses_more() -> None:
    assert number(torch.tensor([0.5]), "accuracy") == 0.5
    for bad in ("high", [1, 2], torch.zeros(2), None):
        with pytest.raises(InvalidValue, match="accuracy must be one number"):
            number(bad, "accuracy")
