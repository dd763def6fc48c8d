"""What an ablation plans: every combination once, cut down to a budget in a stated order, conflicts before any step."""

from __future__ import annotations

import itertools

import pytest

import reinvest as ri
from reinvest.core.errors import InvalidValue, ReinvestError, UnknownName
from reinvest.studies.ablation_plan import ALL, PLAIN, ablation_plan, durations_of, within

FOUR = (
    {"name": "Mixup", "alpha": 0.2},
    {"name": "LabelSmoothing", "alpha": 0.1},
    {"name": "GradientClipping", "norm": 1.0},
    {"name": "EMA", "half_life": "1ep"},
)


def recipe(*methods, **more):
    return ri.Recipe(task="digits", model={"name": "mlp", "hidden": [8]}, duration="8ep", methods=methods, **more)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_question_has_its_arms_and_no_combination_is_twice(count):
    plan = ablation_plan(recipe(*FOUR[:count]))
    wanted = {frozenset(), frozenset(range(count))}
    wanted |= {frozenset(range(count)) - {k} for k in range(count)}
    wanted |= {frozenset({k}) for k in range(count)}
    wanted |= {frozenset(p) for p in itertools.combinations(range(count), 2)}
    assert set(plan.arms.values()) == wanted
    assert len(plan.arms) == len(wanted)
    assert list(plan.arms)[:2] == [PLAIN, ALL]
    assert {plan.arm_of(m) for m in wanted} == set(plan.arms)


def test_arms_are_named_by_what_is_in_them():
    assert set(ablation_plan(recipe(*FOUR[:2])).arms) == {"plain", "all", "Mixup", "LabelSmoothing"}
    assert set(ablation_plan(recipe(*FOUR), questions=["on top"]).arms) == {
        "plain",
        "all",
        *(f"without {n}" for n in ("Mixup", "LabelSmoothing", "GradientClipping", "EMA")),
    }


def test_an_arm_has_exactly_its_methods_in_the_recipe_s_order():
    plan = ablation_plan(recipe(*FOUR))
    assert plan.recipe_of(ALL) == recipe(*FOUR)
    assert plan.recipe_of(PLAIN).methods == ()
    assert [m["name"] for m in plan.recipe_of("without EMA").methods] == ["Mixup", "LabelSmoothing", "GradientClipping"]
    assert [m["name"] for m in plan.recipe_of("Mixup + EMA").methods] == ["Mixup", "EMA"]


def test_methods_that_are_not_studied_stay_in_every_arm():
    plan = ablation_plan(recipe(*FOUR), methods=["Mixup", "EMA"])
    assert plan.names == ("Mixup", "EMA")
    assert [m["name"] for m in plan.recipe_of(PLAIN).methods] == ["LabelSmoothing", "GradientClipping"]


def test_the_same_method_twice_is_told_apart():
    clips = ({"name": "GradientClipping", "norm": 1.0}, {"name": "GradientClipping", "value": 0.1})
    plan = ablation_plan(recipe(*clips))
    assert plan.names == ("GradientClipping (1)", "GradientClipping (2)")
    assert plan.recipe_of("GradientClipping (2)").methods == recipe(clips[1]).methods


@pytest.mark.parametrize("methods", [(), FOUR[:1]])
def test_less_than_two_methods_are_refused(methods):
    with pytest.raises(InvalidValue, match="takes two methods or more apart, got"):
        ablation_plan(recipe(*methods))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UnknownName, match="LabelSmoothing"):
        ablation_plan(recipe(*FOUR), methods=["Mixup", "SAM"])
    with pytest.raises(UnknownName, match="together"):
        ablation_plan(recipe(*FOUR), questions=["twice"])


def test_methods_that_exclude_each_other_are_refused():
    with pytest.raises(ReinvestError):
        ablation_plan(recipe(*FOUR, {"name": "LAWA"}))


def test_a_budget_drops_the_last_pairs_first_then_the_methods_alone():
    whole = ablation_plan(recipe(*FOUR))
    hours = len  # an hour for every arm

    def cost(plan):
        return float(hours(plan.arms))

    assert within(whole, 100, cost) == whole
    assert len(whole.arms) == 16
    cut = within(whole, 14, cost)
    assert cut.pairs == whole.pairs[:4]
    assert len(cut.left_out) == 1
    assert "LabelSmoothing with EMA" in cut.left_out[0] and "beyond the budget of 14 h" in cut.left_out[0]
    assert within(whole, 10, cost).pairs == ()
    least = within(whole, 6, cost)
    assert not least.alone and len(least.arms) == 6
    assert least.left_out[-1].startswith("each method alone")


@pytest.mark.parametrize("hours", [0, -1, "two", True, 5.9])
def test_a_budget_that_buys_nothing_is_refused(hours):
    with pytest.raises(InvalidValue, match="budget"):
        within(ablation_plan(recipe(*FOUR)), hours, lambda plan: float(len(plan.arms)))


def test_durations_by_default_are_parts_of_the_recipe_s():
    assert durations_of(recipe(*FOUR)) == ("1ep", "2ep", "4ep", "8ep")
    assert durations_of(ri.Recipe(task="digits", model="mlp", duration="100st")) == ("12st", "25st", "50st", "100st")
    with pytest.raises(InvalidValue, match="epochs or steps"):
        durations_of(ri.Recipe(task="digits", model="mlp", duration="8min"))
