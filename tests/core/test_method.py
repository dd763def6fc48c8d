"""What a method tells about itself: its phases, and the plain values from which it can be built again."""

from __future__ import annotations

import pytest

from reinvest.core.errors import InvalidValue
from reinvest.core.method import Context, Method, overrides, phases_of
from reinvest.core.view import TaskView
from toys import Climb, Decay, Keep, Shrink, Spy, Surgery


def test_phases_are_those_overridden() -> None:
    assert phases_of(Keep()) == ["select"] and phases_of(Climb()) == ["gradients"] and phases_of(Surgery()) == ["start"]
    assert phases_of(Spy([])) == ["select", "augment", "targets", "losses", "gradients", "weights"]
    assert overrides(Decay(), "weights") and not overrides(Shrink(), "weights")


def test_specs_leave_defaults_out() -> None:
    assert Keep().spec() == {"name": "toys:Keep"}
    assert Keep(5).spec() == {"name": "toys:Keep"}
    assert Keep(3).spec() == Keep(count=3).spec() == {"name": "toys:Keep", "count": 3}
    assert repr(Keep(3)) == "Keep(count=3)"


def test_unknown_arguments_list_the_known_ones() -> None:
    with pytest.raises(InvalidValue, match=r"Keep.*count.*amount"):
        Keep(amount=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidValue, match="Keep"):
        Keep(1, 2)  # type: ignore[call-arg]


def test_a_method_that_overrides_nothing_changes_nothing() -> None:
    class Idle(Method):
        pass

    assert phases_of(Idle()) == ["start"] and Idle().state_dict() == {} and Idle().averages() == []


def test_a_context_derives_progress_and_device() -> None:
    import torch
    from torch import nn

    model = nn.Linear(2, 2)
    context = Context(model, torch.optim.SGD(model.parameters(), 0.1), TaskView(), 5, 20, 10, 0, 0, (0, 1))
    assert context.progress == 0.25 and context.device == torch.device("cpu")
