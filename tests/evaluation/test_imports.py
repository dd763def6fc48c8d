"""Points from W&B, MLflow and Lightning, read from what these tools wrote: the same 24 trainings, the same points."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.evaluation.imports import Imported, read_lightning, read_mlflow, read_tool, read_wandb, sniff
from reinvest.evaluation.judge import verdict
from reinvest.evaluation.points import read_points

DATA = Path(__file__).parents[1] / "data" / "imports"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imports")
    for name in ("mlruns", "lightning_logs", "wandb_offline"):
        with zipfile.ZipFile(DATA / f"{name}.zip") as packed:
            packed.extractall(place)
    return place


def places(folders: Path) -> dict[str, tuple[str, Path]]:
    return {
        "table": ("wandb", DATA / "wandb_runs.csv"),
        "frame": ("wandb", DATA / "wandb_frame.csv"),
        "search": ("mlflow", DATA / "mlflow_search_runs.csv"),
        "export": ("mlflow", DATA / "mlflow_experiment.csv"),
        "store": ("mlflow", folders / "mlruns"),
        "logs": ("lightning", folders / "digits"),
        "offline": ("wandb", folders / "wandb"),
    }


@pytest.mark.parametrize("name", ["table", "frame", "search", "export", "store", "logs", "offline"])
def test_every_form_gives_24_runs_that_are_judged(folders: Path, name: str) -> None:
    tool, path = places(folders)[name]
    assert sniff(path) == tool
    found = read_tool(tool, path, metric="test_accuracy")
    points = read_points(found.rows)
    assert len(points) == 24 and all(p.finished and p.seconds > 0 and 0 < p.quality < 1 for p in points)
    assert {p.arm for p in points} == {"plain", "fast"} and {p.duration for p in points} == {"1", "2", "4", "8"}
    assert all(p.seed.startswith(p.duration) for p in points)
    assert found.notes == () and found.mapping["seconds"].endswith("train_seconds")
    # By epochs, since the arms were trained one after the other on a machine that was not quiet.
    by_epochs = read_tool(tool, path, metric="test_accuracy", seconds="epochs")
    assert verdict(by_epochs.rows, "plain", metric="test_accuracy")["fast"].verdict == "better"


def test_the_forms_of_one_tool_hold_the_same_points(folders: Path) -> None:
    def points(name: str) -> dict[Any, Any]:
        tool, path = places(folders)[name]
        read = read_points(read_tool(tool, path, metric="test_accuracy").rows)
        return {(p.arm, p.duration, p.seed): (p.quality, p.seconds, p.steps) for p in read}

    assert points("table") == points("frame")
    offline = points("offline")
    assert {k: (round(q, 6), round(s, 6), n) for k, (q, s, n) in offline.items()} == points("table")
    assert points("search") == points("export") == points("store")


def test_steps_and_quality_are_those_of_the_end(folders: Path) -> None:
    with (DATA / "wandb_runs.csv").open() as file:
        last = {row["seed"]: row for row in csv.DictReader(file)}
    for point in read_points(read_wandb(DATA / "wandb_runs.csv", metric="test_accuracy").rows):
        assert point.steps == 24 * int(point.duration)
        assert str(point.quality) == last[point.seed]["test_accuracy"] or point.arm == "plain"
    found = read_lightning(folders / "digits", metric="test_accuracy", steps="step")
    assert all(p.steps == 24 * int(p.duration) - 1 for p in read_points(found.rows))


def test_the_tool_s_own_clock_is_used_where_nothing_else_is_there_and_said(tmp_path: Path) -> None:
    for source, tool in (("wandb_runs.csv", "wandb"), ("mlflow_experiment.csv", "mlflow")):
        text = (DATA / source).read_text().replace("train_seconds", "other")
        (tmp_path / source).write_text(text)
        found = read_tool(tool, tmp_path / source, metric="test_accuracy")
        assert "the whole run's" in found.notes[0]
        assert any(p.seconds > 0 for p in read_points(found.rows))
    assert found.mapping["seconds"] == "end_time - start_time"
    asked = read_wandb(tmp_path / "wandb_runs.csv", metric="test_accuracy", seconds="Runtime")
    assert asked.notes == () and asked.mapping["seconds"] == "Runtime"


def test_other_columns_can_be_named_and_the_sentence_says_which() -> None:
    found = read_mlflow(DATA / "mlflow_experiment.csv", metric="train_loss", arm="lr", steps="params.epochs")
    assert {row["arm"] for row in found.rows} == {"0.02", "0.05"}
    assert found.mapping["quality"] == "metrics.train_loss"
    assert found.sentence == (
        "read 24 runs from mlflow: arm = params.lr, duration = params.epochs, seed = params.seed, "
        "seconds = metrics.train_seconds, quality = metrics.train_loss, steps = params.epochs"
    )


def test_runs_that_did_not_end_keep_their_status(tmp_path: Path) -> None:
    text = (DATA / "mlflow_experiment.csv").read_text().replace("FINISHED", "FAILED", 1)
    (tmp_path / "a.csv").write_text(text)
    points = read_points(read_mlflow(tmp_path / "a.csv", metric="test_accuracy").rows)
    assert [p.status for p in points].count("failed") == 1
    crashed = (DATA / "wandb_runs.csv").read_text().replace('"finished"', '"crashed"', 2)
    (tmp_path / "b.csv").write_text(crashed)
    points = read_points(read_wandb(tmp_path / "b.csv", metric="test_accuracy").rows)
    assert [p.status for p in points].count("crashed") == 2


def test_per_cent_becomes_a_share(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "Name,State,arm,epochs,seed,seconds,accuracy\na,finished,x,1,0,2,87.5\nb,crashed,x,1,1,2,\n"
    )
    rows = read_wandb(tmp_path / "a.csv", percent=True).rows
    assert rows[0]["quality"] == 0.875 and rows[1]["quality"] != rows[1]["quality"]


def test_a_column_that_is_missing_or_ambiguous_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidValue, match=r"column of quality, got 'accuracy', .*--metric: Name, State.*test_accuracy"
    ):
        read_wandb(DATA / "wandb_runs.csv")
    with pytest.raises(InvalidValue, match=r"got 'group', which .* lacks; name one with --arm: "):
        read_wandb(DATA / "wandb_runs.csv", metric="test_accuracy", arm="group")
    (tmp_path / "a.csv").write_text("Name,State,seed,epochs,loss\na,finished,0,1,2\n")
    with pytest.raises(InvalidValue, match="none of the usual names"):
        read_wandb(tmp_path / "a.csv", metric="loss")
    (tmp_path / "b.csv").write_text(
        "name,summary,config\na,\"{'loss': nan, 'arm': 1}\",\"{'arm': 'x', 'seed': 0, 'epochs': 1, 'seconds': 2}\"\n"
    )
    with pytest.raises(InvalidValue, match=r"'arm' for config\.arm, summary\.arm; write one in full"):
        read_wandb(tmp_path / "b.csv", metric="loss")
    point = read_points(read_wandb(tmp_path / "b.csv", metric="loss", arm="config.arm").rows)[0]
    assert point.quality != point.quality


def test_what_is_not_the_tool_s_is_refused(tmp_path: Path, folders: Path) -> None:
    (tmp_path / "history.csv").write_text("_step,_runtime,loss\n0,1,2\n")
    (tmp_path / "bad.csv").write_text("summary,config,name\nopen(),{},a\n")
    for read, path, says in (
        (read_wandb, tmp_path / "history.csv", "history of one run"),
        (read_wandb, tmp_path, "at least one run"),
        (read_wandb, tmp_path / "bad.csv", "dictionary as text"),
        (read_wandb, DATA / "mlflow_experiment.csv", "export the runs table"),
        (read_mlflow, DATA / "wandb_runs.csv", "mlflow experiments csv"),
        (read_mlflow, tmp_path, "at least one run"),
        (read_mlflow, tmp_path / "none.csv", "check the path"),
        (read_lightning, tmp_path, "folder that holds version_0"),
        (read_lightning, DATA / "wandb_runs.csv", "folder that holds version_0"),
    ):
        with pytest.raises(DataError, match=says):
            read(path)
    assert sniff(tmp_path) is None and sniff(tmp_path / "history.csv") is None and sniff(tmp_path / "none") is None
    with pytest.raises(UnknownName, match="did you mean 'wandb'"):
        read_tool("wanb", tmp_path)
    broken = tmp_path / "l" / "version_0"
    broken.mkdir(parents=True)
    (broken / "metrics.csv").write_text("epoch,step,accuracy\n0,1,0.5\n")
    (broken / "hparams.yaml").write_text("a: !!python/object:os.system {}\n")
    with pytest.raises(DataError, match="plain YAML"):
        read_lightning(tmp_path / "l")


def test_a_points_file_is_known_by_its_columns() -> None:
    assert sniff(Path(__file__).parents[2] / "examples" / "points.csv") == "points"
    assert Imported([], "wandb", {"arm": "a"}).sentence == "read 0 runs from wandb: arm = a"
