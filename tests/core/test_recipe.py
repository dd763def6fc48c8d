"""Recipes: names and plain values, one canonical text, and an identity that sees every change that matters."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reinvest as ri
from reinvest.core.errors import InvalidValue, ReinvestError, UnknownName
from reinvest.core.method import plain_argument
from reinvest.core.recipe import Recipe, identity, optimizer_class, source_hash

MODEL = """
from torch import nn

def build(*, input_shape, classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def made_here():
    def inner(**_):
        return None
    return inner
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module `users_models` with a factory `build`."""
    path = tmp_path / "users_models.py"
    path.write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "users_models", raising=False)
    return path


def mark(recipe: Recipe, seed: int = 0, **more: Any) -> str:
    about: dict[str, Any] = {"fingerprint": "0" * 16, "layout": [("weight", (2, 3), "float32")]}
    return identity(recipe, seed, **(about | more))


PLAIN = Recipe(task="digits", model="mlp")

# --- plain values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"model": lambda **_: None},
        {"model": torch.nn.Linear(2, 2)},
        {"model": torch.nn.Linear},
        {"task": object()},
        {"model": {"name": "mlp", "hidden": torch.tensor([3])}},
        {"model": {"name": "mlp", "hidden": (x for x in [3])}},
        {"optimizer": {"name": "sgd", "lr": lambda step: 0.1}},
        {"optimizer": {"name": "sgd", "lr": torch.tensor(0.1)}},
        {"schedule": {"name": "cosine", "warmup": {1, 2}}},
        {"methods": [lambda: None]},
        {"methods": [ri.LabelSmoothing]},
        {"methods": [{"name": "LabelSmoothing", "alpha": torch.tensor(0.1)}]},
    ],
)
def test_what_is_no_plain_value_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue) as refused:
        Recipe(**({"task": "digits", "model": "mlp"} | change))
    assert len(str(refused.value)) > 40


@pytest.mark.parametrize("where", ["model", "task"])
def test_lambdas_get_the_remedy(where: str) -> None:
    with pytest.raises(InvalidValue, match=r"file|module"):
        Recipe(**({"task": "digits", "model": "mlp"} | {where: lambda **_: None}))


@pytest.mark.parametrize("where", ["model", "task", "schedule"])
def test_factories_of_main_get_the_remedy(where: str) -> None:
    with pytest.raises(InvalidValue, match=r"file|module"):
        Recipe(**({"task": "digits", "model": "mlp"} | {where: "__main__:factory"}))


def test_what_does_not_equal_itself_is_refused() -> None:
    with pytest.raises(InvalidValue, match="NaN"):
        Recipe(task="digits", model="mlp", optimizer={"name": "sgd", "lr": float("nan")})
    endless = PLAIN.with_(ri.GradientClipping(norm=float("inf")))  # means something: no bound
    assert Recipe.from_dict(json.loads(json.dumps(endless.to_dict()))) == endless


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"batch_size": "128"},
        {"batch_size": True},
        {"precision": "fp8"},
        {"duration": "10"},
        {"duration": "ten"},
        {"duration": "0.5"},
        {"duration": "0ep"},
        {"task": None},
        {"model": {}},
        {"model": {"hidden": [3]}},
        {"methods": "LabelSmoothing(0.1)"},
    ],
)
def test_values_that_break_a_rule_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ReinvestError):
        Recipe(**({"task": "digits", "model": "mlp"} | change))


def test_precisions_are_listed() -> None:
    with pytest.raises(UnknownName, match=r"fp8.*bf16, fp16, fp32"):
        Recipe(task="digits", model="mlp", precision="fp8")


# --- unknown names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "known", "suggested"),
    [
        ({"task": "digit"}, "cifar10", "digits"),
        ({"model": "resnet21"}, "mlp", "resnet2"),
        ({"model": {"name": "resnet57"}}, "mlp", "resnet56"),
        ({"schedule": "cosin"}, "linear", "cosine"),
        ({"optimizer": "adamv"}, "SGD", "[Aa]dam"),
        ({"optimizer": {"name": "sdg", "lr": 0.1}}, "AdamW", "[Ss][Gg][Dd]"),
        ({"methods": ["LabelSmooting"]}, "Mixup", "LabelSmoothing"),
        ({"methods": [{"name": "mixupp"}]}, "EMA", "Mixup"),
    ],
)
def test_unknown_names_list_the_known_ones_and_suggest(change: dict[str, Any], known: str, suggested: str) -> None:
    with pytest.raises(UnknownName, match=f"(?is)did you mean '{suggested}.*Known.*{known}"):
        Recipe(**({"task": "digits", "model": "mlp"} | change))


def test_unknown_fields_list_the_known_ones() -> None:
    for make in (
        lambda: PLAIN.with_(batchsize=3),
        lambda: Recipe.from_dict({"task": "digits", "model": "mlp", "batchsize": 3}),
    ):
        with pytest.raises(ReinvestError, match=r"batchsize.*batch_size"):
            make()


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"name": "sgd", "learning_rate": 0.1}},
        {"methods": [{"name": "LabelSmoothing", "alfa": 0.1}]},
        {"schedule": {"name": "cosine", "warm": 0.1}},
    ],
)
def test_unknown_arguments_are_refused_when_the_recipe_is_written(change: dict[str, Any]) -> None:
    with pytest.raises(ReinvestError):
        Recipe(**({"task": "digits", "model": "mlp"} | change))


def test_bad_values_of_methods_are_refused_when_the_recipe_is_written() -> None:
    with pytest.raises(InvalidValue):
        Recipe(task="digits", model="mlp", methods=[{"name": "LabelSmoothing", "alpha": 7}])


@pytest.mark.parametrize("spec", ["Distill", {"name": "Distill", "weight": 0.5}, {"Distill": None}])
def test_arguments_that_are_missing_are_named_when_the_recipe_is_written(spec: Any) -> None:
    with pytest.raises(InvalidValue, match=r"Distill needs the argument teacher, got .*; write \{'name': 'Distill', "):
        PLAIN.with_(spec)


@pytest.mark.parametrize("teacher", [["feed", torch.nn.Linear(2, 2)], [["feed"], {"a": torch.nn.Linear(2, 2)}]])
def test_objects_inside_lists_and_mappings_are_refused(teacher: list[Any]) -> None:
    class Spec:
        card = ri.Distill.card

        def spec(self) -> dict[str, Any]:
            return {"name": "Distill", "teacher": plain_argument(teacher)}

    with pytest.raises(InvalidValue, match=r"an object for teacher of Distill \(Linear\)"):
        PLAIN.with_(Spec())


def test_references_to_runs_become_full_ids_wherever_they_stand() -> None:
    recipe = PLAIN.with_(ri.Distill(["fe", "ed"]), ri.WarmStart("fe", keep=0.5), ri.Curriculum(["ed"]))
    full = {"fe": "feedfeedfeedfeed", "ed": "edededededededed"}
    found = recipe.resolved(full.__getitem__)
    assert found.parents == tuple(full.values()) and recipe.parents == ("fe", "ed")
    assert found == PLAIN.with_(
        ri.Distill(list(full.values())), ri.WarmStart(full["fe"], keep=0.5), ri.Curriculum([full["ed"]])
    )
    assert found.resolved(lambda run: run) == found
    assert PLAIN.resolved(full.__getitem__) is PLAIN, "no run, nothing asked"


@pytest.mark.parametrize("name", ["sgd", "SGD", "adamw", "AdamW", "rmsprop", "Adagrad", "radam"])
def test_any_optimizer_of_torch(name: str) -> None:
    assert issubclass(optimizer_class(name), torch.optim.Optimizer)
    assert optimizer_class(name).__name__.lower() == name.lower()


@pytest.mark.parametrize("name", ["Optimizer", "lr_scheduler", "swa_utils"])
def test_not_everything_in_torch_optim_is_an_optimizer(name: str) -> None:
    with pytest.raises(UnknownName, match="AdamW"):
        optimizer_class(name)


# --- canonical text --------------------------------------------------------------------------------------------------


def test_defaults_are_left_out() -> None:
    same = [
        PLAIN,
        Recipe(task={"name": "digits"}, model={"name": "MLP"}),
        Recipe(task="DIGITS", model="mlp", duration="10ep", batch_size=128, precision="fp32", methods=[]),
        Recipe(task="digits", model="mlp", duration="10.0ep"),
        Recipe(task="digits", model={"name": "mlp", "hidden": [128]}),
    ]
    assert len({r.canonical() for r in same}) == 1
    text = PLAIN.canonical()
    assert "\n" not in text and json.loads(text).keys() == {"task", "model", "duration"}


def test_the_order_of_dicts_does_not_matter() -> None:
    a = Recipe(task="digits", model="mlp", optimizer={"name": "sgd", "lr": 0.2, "momentum": 0.5})
    b = Recipe(task="digits", model="mlp", optimizer={"momentum": 0.5, "lr": 0.2, "name": "SGD"})
    assert a.canonical() == b.canonical() and mark(a) == mark(b)


def test_every_way_to_name_a_method_is_the_same_method() -> None:
    texts = {
        Recipe(task="digits", model="mlp", methods=methods).canonical()
        for methods in (
            [ri.LabelSmoothing(0.3)],
            (ri.LabelSmoothing(alpha=0.3),),
            [{"name": "LabelSmoothing", "alpha": 0.3}],
            [{"alpha": 0.3, "name": "labelsmoothing"}],
        )
    }
    assert len(texts) == 1
    default = {
        Recipe(task="digits", model="mlp", methods=methods).canonical()
        for methods in (
            ["LabelSmoothing"],
            [ri.LabelSmoothing()],
            [ri.LabelSmoothing(0.1)],
            [{"name": "LabelSmoothing", "alpha": 0.1}],
        )
    }
    assert len(default) == 1 and default != texts


def test_what_matters_changes_the_text() -> None:
    texts = {
        r.canonical()
        for r in (
            PLAIN,
            PLAIN.with_(duration="11ep"),
            PLAIN.with_(batch_size=64),
            PLAIN.with_(precision="bf16"),
            PLAIN.with_(model="convnet"),
            PLAIN.with_(ri.LabelSmoothing()),
            PLAIN.with_(ri.LabelSmoothing(0.2)),
            PLAIN.with_(ri.Mixup()),
            PLAIN.with_(optimizer={"name": "adamw", "lr": 0.1}),
            PLAIN.with_(schedule="constant"),
            PLAIN.with_(schedule={"name": "cosine", "warmup": 0.1}),
            PLAIN.with_(model={"name": "mlp", "hidden": [64]}),
        )
    }
    assert len(texts) == 12


@given(st.permutations(list(PLAIN.with_(ri.LabelSmoothing(0.3), batch_size=32).to_dict().items())))
def test_reading_back_what_was_written(items: list[tuple[str, Any]]) -> None:
    recipe = PLAIN.with_(ri.LabelSmoothing(0.3), batch_size=32)
    back = Recipe.from_dict(json.loads(json.dumps(dict(items))))
    assert back.canonical() == recipe.canonical() and back.to_dict() == recipe.to_dict() and back == recipe


def test_the_canonical_text_is_itself_a_recipe() -> None:
    recipe = PLAIN.with_(ri.LabelSmoothing(0.3), ri.EMA(half_life="10st"), batch_size=32)
    assert Recipe.from_dict(json.loads(recipe.canonical())).canonical() == recipe.canonical()


def test_with_adds_methods_and_replaces_fields_of_a_copy() -> None:
    one = PLAIN.with_(ri.LabelSmoothing(0.1))
    two = one.with_("Mixup", duration="3ep")
    assert [m.name for m in one.build_methods()] == ["LabelSmoothing"] and one.duration == "10ep"
    assert [m.name for m in two.build_methods()] == ["LabelSmoothing", "Mixup"] and two.duration == "3ep"
    assert not PLAIN.build_methods()
    assert [m.name for m in two.with_(methods=[]).build_methods()] == []


def test_methods_are_built_afresh() -> None:
    recipe = PLAIN.with_(ri.LabelSmoothing(0.3))
    (a,), (b,) = recipe.build_methods(), recipe.build_methods()
    assert a is not b and a.alpha == b.alpha == 0.3


def test_a_recipe_does_not_share_the_users_containers() -> None:
    optimizer = {"name": "sgd", "lr": 0.2}
    recipe = Recipe(task="digits", model="mlp", optimizer=optimizer)
    text = recipe.canonical()
    optimizer["lr"] = 0.9
    recipe.to_dict()["optimizer"]["lr"] = 0.9
    assert recipe.canonical() == text
    other = Recipe(task="digits", model="mlp")
    other.to_dict()["optimizer"]["lr"] = 0.9
    assert Recipe(task="digits", model="mlp").canonical() == PLAIN.canonical()


# --- identity --------------------------------------------------------------------------------------------------------


def test_identity_is_32_hex_digits_and_sees_everything() -> None:
    marks = [
        mark(PLAIN),
        mark(PLAIN, 1),
        mark(PLAIN.with_(duration="11ep")),
        mark(PLAIN, fingerprint="1" * 16),
        mark(PLAIN, parents=["a"]),
        mark(PLAIN, layout=[("weight", (3, 2), "float32")]),
        mark(PLAIN, layout=[("weight", (2, 3), "float64")]),
        mark(PLAIN, layout=[("weigh", (2, 3), "float32")]),
    ]
    assert len(set(marks)) == len(marks)
    assert all(len(m) == 32 and int(m, 16) >= 0 for m in marks)
    assert mark(PLAIN) == mark(Recipe(task="digits", model="mlp"))
    assert mark(PLAIN, layout=[("weight", torch.Size([2, 3]), "float32")]) == mark(PLAIN)


def test_identity_sees_the_revision_of_a_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = PLAIN.with_(ri.LabelSmoothing())
    before, plain = mark(recipe), mark(PLAIN)
    monkeypatch.setattr(ri.LabelSmoothing, "revision", 99)
    assert mark(recipe) != before and mark(PLAIN) == plain


def test_editing_the_file_of_a_users_factory_makes_another_run(users: Path) -> None:
    recipe = Recipe(task="digits", model={"name": "users_models:build", "width": 4})
    before = mark(recipe)
    assert before == mark(Recipe.from_dict(recipe.to_dict()))
    users.write_text(MODEL + "\n# edited\n")
    importlib.invalidate_caches()
    del sys.modules["users_models"]
    assert mark(recipe) != before
    users.write_text(MODEL)
    del sys.modules["users_models"]
    assert mark(recipe) == before


def test_a_users_method_and_its_source(users: Path) -> None:
    users.with_name("users_method.py").write_text(
        "from reinvest import Card, Method\n\n\nclass Mine(Method):\n"
        "    card = Card('t', 'p', 2020, 'none', 'weights', 'c', 'b', ('any',))\n\n"
        "    def __init__(self, strength: float = 1.0) -> None:\n        self.strength = strength\n"
    )
    sys.modules.pop("users_method", None)
    Mine = importlib.import_module("users_method").Mine
    recipe = PLAIN.with_(Mine(2.0))
    assert recipe.to_dict()["methods"] == [{"name": "users_method:Mine", "strength": 2.0}]
    assert recipe.canonical() == PLAIN.with_({"name": "users_method:Mine", "strength": 2.0}).canonical()
    before = mark(recipe)
    path = users.with_name("users_method.py")
    path.write_text(path.read_text() + "# edited\n")
    del sys.modules["users_method"]
    assert mark(recipe) != before
    sys.modules.pop("users_method", None)


def test_source_hashes_are_16_hex_digits(users: Path) -> None:
    made = importlib.import_module("users_models")
    assert len(source_hash(made.build)) == 16 and source_hash(made.build) == source_hash(made.made_here)


def test_what_has_no_source_file_is_refused() -> None:
    with pytest.raises(ReinvestError):
        source_hash(dict)


def test_a_recipe_can_be_shown() -> None:
    assert "digits" in repr(PLAIN) and "mlp" in repr(PLAIN)
