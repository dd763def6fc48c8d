"""Policies: exactly what each of them adds to a recipe, from which runs, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.recipe import Recipe
from reinvest.studies.policies import DISTILL, POLICIES, WARM, apply, parsed, scaled, text_of

BASE = Recipe(task="digits", model="mlp", duration="8ep", optimizer={"name": "sgd", "lr": 0.3, "momentum": 0.9})


class Earlier:
    def __init__(self, run: str) -> None:
        self.id = run


PAST = [Earlier(letter * 16) for letter in "abc"]
A, B, C = ("a" * 16, "b" * 16, "c" * 16)
THIRD = 0.3 * (1 / 3)


def added(policy: Any, past: Any = PAST) -> list[dict[str, Any]]:
    recipe = apply(policy, BASE, past)
    assert (recipe.task, recipe.model, recipe.batch_size) == (BASE.task, BASE.model, BASE.batch_size)
    return [dict(m) for m in recipe.methods]


@pytest.mark.parametrize(
    ("policy", "methods", "rate"),
    [
        ("scratch", [], 0.3),
        ("records", [{"name": "Distill", "teacher": C, "source": "records"}], 0.3),
        (
            {"reuse": "records", "weight": [0.8, 0.1], "temperature": 2},
            [{"name": "Distill", "teacher": C, "source": "records", "weight": [0.8, 0.1], "temperature": 2}],
            0.3,
        ),
        ("records average", [{"name": "Distill", "teacher": [A, B, C], "source": "records", "pool": "average"}], 0.3),
        (
            {"reuse": "records average", "last": 2},
            [{"name": "Distill", "teacher": [B, C], "source": "records", "pool": "average"}],
            0.3,
        ),
        ("records all", [{"name": "Distill", "teacher": [A, B, C], "source": "records", "pool": "random"}], 0.3),
        ({"reuse": "records all", "last": 1}, [{"name": "Distill", "teacher": C, "source": "records"}], 0.3),
        ("clean pass", [{"name": "Distill", "teacher": C, "source": "clean pass"}], 0.3),
        ("forward", [{"name": "Distill", "teacher": C, "source": "forward"}], 0.3),
        (
            "forward first",
            [{"name": "Distill", "teacher": C, "source": "forward", "until": 0.2, "weight": [0.9, 0.9]}],
            0.3,
        ),
        ("forward every", [{"name": "Distill", "teacher": C, "source": "forward", "every": 10}], 0.3),
        (
            {"reuse": "forward every", "every": 5},
            [{"name": "Distill", "teacher": C, "source": "forward", "every": 5}],
            0.3,
        ),
        ("forward random", [{"name": "Distill", "teacher": [A, B, C], "source": "forward", "pool": "random"}], 0.3),
        ("warm start", [{"name": "WarmStart", "run": C}], THIRD),
        ({"reuse": "warm start", "rate": 1}, [{"name": "WarmStart", "run": C}], 0.3),
        ("shrink-perturb", [{"name": "WarmStart", "run": C, "keep": 0.6, "noise": 0.4}], 0.3),
        (
            {"reuse": "shrink-perturb", "keep": 0.3, "rate": 0.5},
            [{"name": "WarmStart", "run": C, "keep": 0.3, "noise": 0.4}],
            0.15,
        ),
        (
            {"reuse": "warm start + records", "until": 0.5, "keep": 0.9},
            [
                {"name": "WarmStart", "run": C, "keep": 0.9},
                {"name": "Distill", "teacher": C, "source": "records", "until": 0.5},
            ],
            THIRD,
        ),
        (
            {"reuse": "high-loss", "share": 0.4, "replay": 0.5},
            [{"name": "WarmStart", "run": C}, {"name": "Subset", "run": C, "share": 0.4, "replay": 0.5}],
            THIRD,
        ),
    ],
    ids=str,
)
def test_a_policy_adds_exactly_this(policy: Any, methods: list[dict[str, Any]], rate: float) -> None:
    assert added(policy) == methods
    assert apply(policy, BASE, PAST).optimizer == {**BASE.optimizer, "lr": pytest.approx(rate)}


@pytest.mark.parametrize("name", [n for n in POLICIES if n != "advise"])
def test_the_first_run_is_the_same_under_every_policy(name: str) -> None:
    assert apply({"reuse": name, "length": 0.5}, BASE, []) == BASE


@pytest.mark.parametrize("name", [n for n in POLICIES if n not in ("scratch", "advise")])
def test_followers_build_on_runs_of_their_chain_only_and_keep_the_recipes_own_methods(name: str) -> None:
    own = BASE.with_({"name": "LabelSmoothing", "alpha": 0.1})
    made = apply(name, own, PAST)
    assert made.methods[0] == own.methods[0]
    assert set(made.parents) == ({A, B, C} if POLICIES[name].several else {C})
    assert apply({"reuse": name, "length": 0.25}, own, PAST).duration == "2ep"


def test_lengths_are_shares_of_the_duration() -> None:
    assert apply({"reuse": "scratch", "length": 0.5}, BASE, PAST).duration == "4ep"
    for duration, length, expected in (
        ("3ep", 0.1, "0.3ep"),
        ("3st", 0.1, "1st"),
        ("5st", 0.5, "2st"),
        ("7ep", 1.0, "7ep"),
    ):
        assert scaled(duration, length) == expected


def test_a_rate_needs_a_rate_to_scale() -> None:
    bare = Recipe(task="digits", model="mlp", optimizer={"name": "adam"})
    with pytest.raises(InvalidValue, match="without one"):
        apply("warm start", bare, PAST)
    assert apply({"reuse": "warm start", "rate": 1}, bare, PAST).optimizer == {"name": "adam"}


@pytest.mark.parametrize(
    ("policy", "error", "said"),
    [
        ("recrods", UnknownName, "did you mean 'records'"),
        ({"reuse": "records", "rate": 0.3}, UnknownName, "Known: .*temperature"),
        (
            {"reuse": "warm start", "weight": 0.3},
            UnknownName,
            "Known: fallback, heads, keep, length, noise, rate",
        ),
        ({"reuse": "scratch", "weight": 0.3}, UnknownName, "Known: fallback, length"),
        ({"weight": 0.3}, InvalidValue, "a policy is a name or a mapping"),
        (7, InvalidValue, "a policy is a name or a mapping"),
        ({"reuse": "records", "length": 0}, InvalidValue, "length is a share"),
        ({"reuse": "records", "length": 1.5}, InvalidValue, "length is a share"),
        ({"reuse": "records", "length": True}, InvalidValue, "length is a share"),
        ({"reuse": "records", "last": 0}, InvalidValue, "last is a number of runs"),
        ({"reuse": "records", "choose": "worst"}, UnknownName, "best, newest"),
        ({"reuse": "warm start", "rate": 0}, InvalidValue, "rate is a factor"),
        ({"reuse": "warm start", "fallback": "warm start"}, InvalidValue, "another policy"),
        ({"reuse": "warm start", "fallback": {"reuse": "records", "length": 0.5}}, InvalidValue, "another policy"),
        ({"reuse": "warm start", "fallback": "recrods"}, UnknownName, "records"),
    ],
    ids=str,
)
def test_unknown_policies_and_options_are_refused_with_those_that_are_known(
    policy: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        parsed(policy)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"reuse": "records", "weight": 1.5}, "weight is a share"),
        ({"reuse": "records", "temperature": 0}, "temperature"),
        ({"reuse": "forward", "until": 0}, "until"),
        ({"reuse": "forward every", "every": 0}, "every"),
        ({"reuse": "warm start", "keep": 2}, "keep"),
        ({"reuse": "high-loss", "share": 0}, "share"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_when_the_recipe_is_made(policy: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        apply(policy, BASE, PAST)


def test_equal_policies_have_one_text() -> None:
    assert text_of("records") == text_of({"reuse": "records", "fallback": "clean pass"})
    assert text_of({"reuse": "records", "weight": 0.9, "until": 1.0}) == text_of(
        {"until": 1.0, "weight": 0.9, "reuse": "records"}
    )
    assert text_of("records") != text_of("forward")


def test_every_policy_says_what_it_does() -> None:
    for name, policy in POLICIES.items():
        assert policy.about, name
        assert policy.needs in ("nothing", "rows", "outputs", "weights", "rows weights")
        assert (
            set(policy.options) <= {*DISTILL, *WARM, "rate", "last", "choose", "share", "replay", "cap", "which"}
            or name == "advise"
        )


class Judged(Earlier):
    """A run with an accuracy on validation and another one on test, which must not matter."""

    def __init__(self, run: str, validation: float | None) -> None:
        super().__init__(run)
        self.last = {"test": {"accuracy": 1.0 - (validation or 0.0)}}
        if validation is not None:
            self.last["validation"] = {"accuracy": validation}


@pytest.mark.parametrize(
    ("qualities", "last", "wanted"),
    [
        ((0.9, 0.5, 0.7), 1, A),
        ((0.5, 0.9, 0.9), 1, C),
        ((0.9, 0.5, 0.7), 2, [C, A]),
        ((None, 0.5, None), 1, B),
        ((None, None, None), 1, C),
    ],
)
def test_the_best_teachers_are_chosen_on_validation(qualities: Any, last: int, wanted: Any) -> None:
    past = [Judged(run, value) for run, value in zip((A, B, C), qualities, strict=True)]
    policy = {"reuse": "records average", "choose": "best", "last": last}
    assert added(policy, past)[0]["teacher"] == wanted
    assert added({**policy, "choose": "newest"}, past)[0]["teacher"] == (C if last == 1 else [B, C])
