"""`reinvest verdict` on what W&B, MLflow and Lightning wrote."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from calling import Call

DATA = Path(__file__).parents[1] / "data" / "imports"
ASKED = ("--baseline", "plain", "--metric", "test_accuracy", "--seconds", "epochs")


@pytest.mark.parametrize(
    "name", ["wandb_runs.csv", "wandb_frame.csv", "mlflow_search_runs.csv", "mlflow_experiment.csv"]
)
def test_an_export_is_known_by_its_columns_and_judged(call: Call, name: str) -> None:
    said = call("verdict", str(DATA / name), *ASKED, "--json")
    assert said.code == 0 and said.data["fast"]["verdict"] == "better"
    assert f"read 24 runs from {name.split('_')[0]}: arm = " in said.err


@pytest.mark.parametrize(
    ("packed", "folder", "tool"),
    [("mlruns", "mlruns", "mlflow"), ("lightning_logs", "digits", "lightning"), ("wandb_offline", "wandb", "wandb")],
)
def test_folders_are_read_with_a_report_and_a_command_that_does_it_again(
    call: Call, packed: str, folder: str, tool: str
) -> None:
    with zipfile.ZipFile(DATA / f"{packed}.zip") as files:
        files.extractall(".")
    said = call("verdict", folder, *ASKED, "--from", tool, "--out", "v.html", "--json")
    assert said.code == 0 and said.data["fast"]["verdict"] == "better"
    assert f"--from {tool}" in Path("v.html").read_text(encoding="utf8")


def test_the_clock_of_the_tool_is_warned_of(call: Call) -> None:
    Path("a.csv").write_text((DATA / "mlflow_experiment.csv").read_text().replace("train_seconds", "x"))
    said = call("verdict", "a.csv", "--baseline", "plain", "--metric", "test_accuracy")
    assert "with start-up, evaluation and logging" in said.err and "end_time - start_time" in said.err


def test_wrong_columns_and_tools_are_refused(call: Call) -> None:
    file = str(DATA / "wandb_runs.csv")
    assert "name one with --metric" in call("verdict", file, "--baseline", "plain").sentence
    assert "unknown tool" in call("verdict", file, "--baseline", "plain", "--from", "tensorboard").sentence
    points = str(Path(__file__).parents[2] / "examples" / "points.csv")
    said = call("verdict", points, "--baseline", "plain", "--arm", "arm")
    assert said.code == 2 and "add --from" in said.sentence
