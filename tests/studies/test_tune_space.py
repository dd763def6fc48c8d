"""Search spaces: what they may say, which recipe a proposal makes, and what is refused before anything is trained."""

from __future__ import annotations

import pytest

import reinvest as ri
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.studies.tune_space import Choices, Range, applied, at_edge, read_space, resolved_space, space_to_dict

RECIPE = ri.Recipe(
    task="digits",
    model={"name": "mlp", "hidden": [8]},
    methods=[ri.LabelSmoothing(0.1), ri.Mixup(0.2)],
)
DECLARED = {
    "optimizer.lr": {"low": 0.05, "high": 1.0, "log": True},
    "schedule.warmup": {"low": 0.0, "high": 0.5},
    "batch_size": {"low": 16, "high": 64},
    "model.hidden": [[8], [16, 16]],
    "methods.LabelSmoothing.alpha": [0.0, 0.1, 0.2],
}


def test_what_is_declared_is_read_and_written_back():
    space = read_space("smooth", DECLARED, RECIPE)
    assert space["optimizer.lr"] == Range(0.05, 1.0, log=True)
    assert space["batch_size"] == Range(16, 64, whole=True)
    assert not space["schedule.warmup"].whole
    assert space["methods.LabelSmoothing.alpha"] == Choices((0.0, 0.1, 0.2))
    assert space_to_dict(space) == DECLARED
    assert read_space("smooth", space_to_dict(space), RECIPE) == space


def test_a_proposal_changes_these_values_and_nothing_else():
    made = applied(
        RECIPE, {"optimizer.lr": 0.5, "batch_size": 32, "model.hidden": [16], "methods.LabelSmoothing.alpha": 0.0}
    )
    before, after = RECIPE.to_dict(), made.to_dict()
    assert after["optimizer"] == {**before["optimizer"], "lr": 0.5}
    assert after["batch_size"] == 32
    assert after["model"] == {"name": "mlp", "hidden": [16]}
    assert after["methods"] == [{"name": "LabelSmoothing", "alpha": 0.0}, before["methods"][1]]
    assert {k: after[k] for k in ("task", "schedule", "duration", "precision")} == {
        k: before[k] for k in ("task", "schedule", "duration", "precision")
    }
    assert applied(RECIPE, {}) == RECIPE


def test_a_method_of_a_users_own_module_is_named_by_its_class():
    recipe = RECIPE.with_(methods=[{"name": "reinvest.methods.targets.label_smoothing:LabelSmoothing", "alpha": 0.3}])
    assert applied(recipe, {"methods.LabelSmoothing.alpha": 0.2}).methods[0]["alpha"] == 0.2


@pytest.mark.parametrize(
    ("space", "error", "part"),
    [
        ({}, InvalidValue, "at least one tuned value, got none"),
        ([1], InvalidValue, "mapping from a recipe's field to its values, got [1]"),
        ({"optimizer.lr": 0.1}, InvalidValue, "a list of choices or {low: ..., high: ...}, got 0.1"),
        ({"optimizer.lr": {"low": 1.0, "high": 0.1}}, InvalidValue, "low below high, got low 1.0 and high 0.1"),
        ({"optimizer.lr": {"low": 0.0, "high": 0.1, "log": True}}, InvalidValue, "low above 0, got 0.0"),
        ({"optimizer.lr": {"low": "a", "high": 0.1}}, InvalidValue, "numbers, got 'a'"),
        ({"optimizer.lr": {"low": 0.1, "high": float("inf")}}, InvalidValue, "numbers, got inf"),
        ({"optimizer.lr": {"low": True, "high": 2}}, InvalidValue, "numbers, got True"),
        ({"optimizer.lr": {"low": 0.1, "high": 1.0, "log": 1}}, InvalidValue, "log is true or false, got 1"),
        ({"optimizer.lr": {"low": 0.1}}, InvalidValue, "add 'high:'"),
        ({"optimizer.lr": {"low": 0.1, "high": 1.0, "setp": 1}}, UnknownName, "'setp'"),
        ({"optimizer.lr": [0.1]}, InvalidValue, "two choices or more, got [0.1]"),
        ({"optimizer.lr": [0.1, 0.1]}, InvalidValue, "different choices, got [0.1, 0.1]"),
        ({"optimiser.lr": [0.1, 0.2]}, UnknownName, "did you mean 'optimizer'"),
        ({"task.train_examples": [100, 200]}, InvalidValue, "the task stays"),
        ({"duration": ["1ep", "2ep"]}, InvalidValue, "the duration stays"),
        ({"optimizer": [{"name": "sgd"}, {"name": "adamw"}]}, InvalidValue, "write optimizer.lr"),
        ({"batch_size.large": [1, 2]}, InvalidValue, "batch_size has no arguments"),
        ({"optimizer.rate": [0.1, 0.2]}, InvalidValue, "unknown argument of optimizer 'sgd' 'rate'"),
        ({"methods.SAM.rho": [0.1, 0.2]}, UnknownName, "LabelSmoothing, Mixup"),
        ({"methods.Mixup": [0.1, 0.2]}, InvalidValue, "methods.NAME.ARGUMENT, got 'methods.Mixup'"),
        ({"methods.LabelSmoothing.alpha": [0.1, 1.5]}, InvalidValue, "alpha is a number from 0"),
        ({"methods.LabelSmoothing.alpha": {"low": 0.1, "high": 1.5}}, InvalidValue, "got 1.5"),
        ({"batch_size": {"low": 0.5, "high": 8.0}}, InvalidValue, "a batch size is a whole number"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space, error, part):
    with pytest.raises(error) as caught:
        read_space("smooth", space, RECIPE)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_methods_of_one_name_cannot_be_told_apart():
    with pytest.raises(InvalidValue, match=r"one method of that name, got 2 of 'LabelSmoothing'"):
        read_space("a", {"methods.LabelSmoothing.alpha": [0.1, 0.2]}, RECIPE.with_(ri.LabelSmoothing(0.3)))


def test_choices_that_name_runs_name_them_by_their_whole_ids():
    recipe = RECIPE.with_(methods=[{"name": "Distill", "teacher": "abc", "weight": 0.5}])
    space = {"methods.Distill.teacher": Choices(("abc", "def")), "methods.Distill.weight": Choices((0.1, 0.9))}
    found = resolved_space(space, recipe, lambda run: f"{run}-whole")
    assert found == {**space, "methods.Distill.teacher": Choices(("abc-whole", "def-whole"))}
    assert resolved_space({"batch_size": Range(1, 8, whole=True)}, recipe, str.upper) == {
        "batch_size": Range(1, 8, whole=True)
    }


@pytest.mark.parametrize(
    ("axis", "value", "edge"),
    [
        (Range(0.0, 1.0), 0.04, True),
        (Range(0.0, 1.0), 0.06, False),
        (Range(0.0, 1.0), 0.94, False),
        (Range(0.0, 1.0), 0.96, True),
        (Range(0.01, 1.0, log=True), 0.012, True),
        (Range(0.01, 1.0, log=True), 0.02, False),
        (Range(1, 9, whole=True), 9, True),
        (Choices((0.1, 0.2)), 0.2, False),
    ],
)
def test_a_value_at_the_end_of_its_range_is_seen(axis, value, edge):
    assert at_edge(axis, value) is edge
