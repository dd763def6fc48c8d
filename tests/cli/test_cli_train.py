"""`reinvest train`: a recipe from options or a file, a run in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from calling import Call

from reinvest.cli.main import COMMANDS
from reinvest.cli.train import TRAIN, method_specs, recipe_from
from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.core.recipe import OPTIMIZER, Recipe
from reinvest.core.yaml_numbers import load
from reinvest.store import Store

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ("train", "--task", "digits", "--task.train_examples", "64", "--model", "mlp", "--batch-size", "32")


def parsed(*words: str) -> Recipe:
    assert COMMANDS["train"][0] == "train:TRAIN"
    return recipe_from(TRAIN.parser("train").parse_args(TRAIN.rewrite(words)))


def test_a_run_is_trained_once_and_then_found(call: Call) -> None:
    first = call(*SMALL, "--duration", "2ep", "--methods", "LabelSmoothing", "--json")
    assert first.code == 0
    assert first.data["status"] == "finished"
    assert first.data["steps"] == 4
    assert set(first.data["validation"]) == set(first.data["test"]) == {"accuracy", "loss"}
    assert first.data["recipe"]["methods"] == [{"name": "LabelSmoothing"}]
    again = call(*SMALL, "--duration", "2ep", "--methods", "LabelSmoothing", "--json")
    assert again.data == first.data
    text = call(*SMALL, "--duration", "2ep", "--methods", "LabelSmoothing").out
    for expected in (first.data["id"], "finished after 4 steps", "validation accuracy", "test accuracy"):
        assert expected in text
    assert len(Store("runs").runs()) == 1


def test_a_diverged_run_is_kept_and_said(call: Call) -> None:
    said = call(*SMALL, "--duration", "3ep", "--optimizer.lr", "1e30", "--json")
    assert said.code == 3
    assert said.data["status"] == "diverged"


def test_options_override_the_file() -> None:
    file = str(EXAMPLES / "recipe.yaml")
    plain = parsed(file)
    assert (plain.batch_size, plain.duration) == (64, "10ep")
    assert plain.methods == ({"name": "LabelSmoothing", "alpha": 0.1},)
    changed = parsed(
        file, "--optimizer.lr", "0.3", "--duration", "2ep", "--methods", "SAM.rho=0.1", "--model.width", "8"
    )
    assert changed.optimizer == {**plain.optimizer, "lr": 0.3}
    assert changed.model == {"name": "convnet", "width": 8}
    assert changed.methods == (*plain.methods, {"name": "SAM", "rho": 0.1})
    other = parsed(file, "--optimizer", "adamw", "--optimizer.lr", "0.01", "--model", "mlp")
    assert other.optimizer == {"name": "adamw", "lr": 0.01}
    assert other.model == {"name": "mlp"}


def test_arguments_without_a_name_belong_to_the_default() -> None:
    recipe = parsed("--task=digits", "--model", "convnet", "--optimizer.lr", "0.05", "--schedule.warmup=0.2")
    assert recipe.optimizer == {**OPTIMIZER, "lr": 0.05}
    assert recipe.schedule == {"name": "cosine", "warmup": 0.2}


def test_method_words() -> None:
    assert method_specs(["SAM.rho=0.1", "EMA", "SAM.interval=2", "my.module:Cls.flag=true"]) == [
        {"name": "SAM", "rho": 0.1, "interval": 2},
        {"name": "EMA"},
        {"name": "my.module:Cls", "flag": True},
    ]
    with pytest.raises(InvalidValue, match=r"SAM\.rho=0\.1"):
        method_specs(["SAM=0.1"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model", "mlp"], "add --task digits"),
        (["--task", "digit", "--model", "mlp"], "did you mean 'digits'?"),
        (["--task", "digits", "--model", "mpl"], "did you mean 'mlp'?"),
        (["--task", "digits", "--model", "mlp", "--methods", "LabelSmoothin"], "did you mean 'LabelSmoothing'?"),
        (["--task", "digits", "--model", "mlp", "--methods", "SAM.rh=1"], "did you mean 'rho'?"),
        (["--task", "digits", "--model", "mlp", "--methods", "SAM.rho=-1"], "rho"),
        (["--task", "digits", "--model", "mlp", "--optimizer", "sdg"], "did you mean 'SGD'?"),
        (["--task", "digits", "--model", "mlp", "--optimizer.learning_rate", "1"], "unknown argument of optimizer"),
        (["--task", "digits", "--model", "mlp", "--duration", "10"], "write '10ep'"),
        (["--task", "digits", "--model", "mlp", "--precision", "fp8"], "bf16"),
        (["--task", "digits", "--model", "mlp", "--batch-size", "0"], "batch size"),
        (["--task", "digits", "--model", "mlp", "--batch-size", "many"], "takes a whole number"),
        (["--task", "digits", "--model", "mlp", "--threads", "0"], "--threads is 1 or more"),
        (["--task", "digits", "--model", "nowhere.at_all:net"], "no module"),
        (["--task", "cifar10", "--task.folder", "nowhere", "--model", "mlp"], "nowhere"),
        (["none.yaml"], "does not exist"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(call: Call, words: list[str], expected: str) -> None:
    said = call("train", *words)
    assert said.code == 2
    assert expected in said.sentence


@pytest.mark.parametrize("content", ["- a\n- b\n", "task: [", "", "\x00\x01"])
def test_a_file_that_is_no_recipe_is_refused(call: Call, content: str) -> None:
    Path("r.yaml").write_text(content)
    said = call("train", "r.yaml")
    assert said.code == 2
    assert "r.yaml" in said.sentence


def test_an_unknown_field_lists_the_known_ones(call: Call) -> None:
    Path("r.yaml").write_text("task: digits\nmodel: mlp\nbatchsize: 3\n")
    assert "did you mean 'batch_size'?" in call("train", "r.yaml").sentence


def test_own_model_and_data_beside_the_file(call: Call) -> None:
    said = call("train", str(EXAMPLES / "own_recipe.yaml"), "--duration", "1ep", "--json")
    assert said.code == 0
    assert said.data["task"] == "own_model_and_data:rings"


def test_a_fault_in_a_users_model_says_where(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("broken_net.py").write_text("def net(*, input_shape, classes):\n    return classes / 0\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    said = call("train", "--task", "digits", "--model", "broken_net:net")
    assert said.code == 2
    assert "ZeroDivisionError at line 2 of broken_net.py" in said.sentence


def test_a_fault_in_a_users_forward_pass_says_where(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["from torch import nn", "class Net(nn.Linear):", "    def forward(self, x):", "        return 1 / 0"]
    lines += ["def net(*, input_shape, classes):", "    return Net(64, classes)"]
    Path("broken_pass.py").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    said = call("train", "--task", "digits", "--model", "broken_pass:net", "--duration", "2st")
    assert said.code == 1
    assert "broken_pass.py:4" in said.sentence


def test_unknown_names_keep_their_kind(call: Call) -> None:
    with pytest.raises(UnknownName):
        parsed("--task", "digit", "--model", "mlp")
    values: dict[str, Any] = call("train", "--task", "digit", "--model", "mlp", "--json").data
    assert values["kind"] == "UnknownName"


def test_numbers_with_an_exponent_are_numbers_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("task: digits\nmodel: mlp\noptimizer: {name: sgd, lr: 1e-3}\nmethods: [{SAM: {rho: 5E-2}}]\n")
    recipe = parsed(str(file))
    assert recipe.optimizer["lr"] == 0.001
    assert recipe.methods[0]["rho"] == 0.05
    assert parsed(str(file), "--optimizer.lr", "2e-3").optimizer["lr"] == 0.002
    assert method_specs(["SAM.rho=1e-1"]) == [{"name": "SAM", "rho": 0.1}]
    known: dict[str, Any] = {
        "1e3": 1000.0, "-.5": -0.5, "+1.e+2": 100.0, "3": 3, "0.5": 0.5, "true": True, "null": None, "e3": "e3",
        "1e-3x": "1e-3x", "10ep": "10ep", "'1e-3'": "1e-3", ".": ".", "1.2.3": "1.2.3", "-": [None], "1e": "1e",
    }  # fmt: skip
    for text, value in known.items():
        found = load(text)
        assert found == value
        assert type(found) is type(value)


def test_yaml_executes_nothing(tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError):
        load("!!python/object/apply:os.system ['true']")
