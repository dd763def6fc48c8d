"""Points from W&B, MLflow and Lightning, read from what these tools wrote: the same 24 trainings, the same points."""

from __future__ import annotations

import csv
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reinvest.core.errors import DataError, InvalidValue, UnknownName
from reinvest.evaluation.imports import Imported, read_lightning, read_mlflow, read_tool, read_wandb, sniff
from reinvest.evaluation.judge import verdict
from reinvest.evaluation.points import read_points
from reinvest.evaluation.settings import direction

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
    told = any("how a run ended" in note for note in found.notes)
    assert told == (name in ("frame", "logs")) and len(found.notes) == told
    assert found.mapping["seconds"].endswith("train_seconds")
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


def test_a_run_that_crashed_is_never_taken_as_finished(tmp_path: Path) -> None:
    """Blanks after commas, and a column of the user's that is called status, hide nothing."""
    head, values = "Name, State, arm, epochs, seed, seconds, accuracy", "a, crashed, x, 1, 0, 2, 0.5"
    (tmp_path / "blanks.csv").write_text(f"{head}\n{values}\n")
    assert sniff(tmp_path / "blanks.csv") == "wandb"
    (tmp_path / "own.csv").write_text(f"{head},status\n{values},ok\n".replace(" ", ""))
    (tmp_path / "frame.csv").write_text(
        "name,state,summary,config\na,crashed,\"{'accuracy': 0.5, 'seconds': 2}\",\"{'arm': 'x', 'epochs': 1, 'seed': 0}\"\n"
    )
    for name in ("blanks.csv", "own.csv", "frame.csv"):
        found = read_wandb(tmp_path / name)
        assert [p.status for p in read_points(found.rows)] == ["crashed"] and found.notes == (), name
    (tmp_path / "empty.csv").write_text(f"{head}\n{values.replace('crashed', '')}\n")
    assert [p.status for p in read_points(read_wandb(tmp_path / "empty.csv").rows)] == ["unknown"]


def test_two_columns_of_one_name_are_told_apart_where_they_differ(tmp_path: Path) -> None:
    head, rows = "Name,State,arm,epochs,seed,seconds,accuracy", ("a,finished,x,8,0,2,0.5,8", "b,finished,x,8,1,2,0.5,3")
    (tmp_path / "a.csv").write_text(f"{head},epochs\n" + "\n".join(rows) + "\n")
    with pytest.raises(InvalidValue, match=r"--duration: .*epochs \(column 4\), .*epochs \(column 8\)"):
        read_wandb(tmp_path / "a.csv")
    found = read_wandb(tmp_path / "a.csv", duration="epochs (column 4)")
    assert [row["duration"] for row in found.rows] == ["8", "8"]
    (tmp_path / "b.csv").write_text(f"{head},epochs\n{rows[0]}\n")
    assert read_wandb(tmp_path / "b.csv").mapping["duration"] == "epochs"


def test_of_an_mlflow_store_only_runs_that_are_there_count(folders: Path, tmp_path: Path) -> None:
    """Deleted runs stay in the folder with a mark, deleted experiments in .trash, and logged models look like runs."""
    place = tmp_path / "mlruns"
    shutil.copytree(folders / "mlruns", place)
    runs = sorted(meta.parent for meta in place.rglob("meta.yaml") if (meta.parent / "metrics").is_dir())
    said = (runs[0] / "meta.yaml").read_text()
    (runs[0] / "meta.yaml").write_text(said.replace("lifecycle_stage: active", "lifecycle_stage: deleted"))
    shutil.copytree(runs[1], place / ".trash" / runs[1].parent.name / runs[1].name)
    model = runs[2].parent / "models" / "m-1"
    (model / "metrics").mkdir(parents=True)
    (model / "meta.yaml").write_text("model_id: m-1\nname: net\nstatus: 2\n")
    (runs[2] / "artifacts").mkdir(exist_ok=True)
    (runs[2] / "artifacts" / "metrics.csv").write_text("a,b\n1,2\n")
    assert sniff(place) == "mlflow"
    assert len(read_points(read_mlflow(place, metric="test_accuracy").rows)) == 23


def frame(tmp_path: Path, spelled: list[str]) -> list[str]:
    """Arms of a data frame of W&B whose runs have these spellings of a configured value."""
    path = tmp_path / "frame.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["", "summary", "config", "name"])
        for k, value in enumerate(spelled):
            config = f"{{'augment': {value}, 'epochs': 1, 'seed': {k}}}"
            rows.writerow([k, "{'accuracy': 0.5, 'seconds': 1.0}", config, f"run {k}"])
    return [p.arm for p in read_points(read_wandb(path, arm="augment").rows)]


def test_a_boolean_is_one_value_however_it_was_written(tmp_path: Path) -> None:
    spelled = ["True", "'true'", "1", "'1'", "1.0", "'TRUE'", "False", "'false'", "0", "'0'"]
    assert frame(tmp_path, spelled) == ["true"] * 6 + ["false"] * 4
    # Without a word for it 1 and 0 are numbers, and so they are beside others.
    assert frame(tmp_path, ["1", "0", "'1'"]) == ["1", "0", "1"]
    assert frame(tmp_path, ["2", "1", "0"]) == ["2", "1", "0"]
    assert frame(tmp_path, ["True", "'auto'", "1"]) == ["true", "auto", "1"]


def test_a_boolean_of_a_runs_table_is_that_of_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    lines = ["Name,State,augment,epochs,seed,accuracy,seconds"]
    lines += [f"r{k},finished,{value},1,{k},0.5,1.0" for k, value in enumerate(("true", "1", "False", ""))]
    path.write_text("\n".join(lines) + "\n")
    rows = read_wandb(path, arm="augment").rows
    assert [row["arm"] for row in rows] == ["true", "true", "false", ""]


def test_a_path_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    for tool in ("wandb", "mlflow", "lightning"):
        for name in ("none", "none.csv", "none.wandb"):
            with pytest.raises(DataError, match="does not exist"):
                read_tool(tool, tmp_path / name)


def test_per_cent_of_what_looks_like_a_share_is_noted(tmp_path: Path) -> None:
    head = "Name,State,arm,epochs,seed,seconds,accuracy\n"
    (tmp_path / "share.csv").write_text(f"{head}a,finished,x,1,0,2,0.87\n")
    (tmp_path / "cent.csv").write_text(f"{head}a,finished,x,1,0,2,87\n")
    assert any("--percent" in note for note in read_wandb(tmp_path / "share.csv", percent=True).notes)
    assert read_wandb(tmp_path / "cent.csv", percent=True).notes == ()


@pytest.mark.parametrize(
    "name",
    ["val_loss_epoch", "loss_step", "Loss/test", "testLoss", "metrics.val.loss", "summary.nll_mean", "top1_err", "error_pct",
     "word_error_rate", "val_perplexity_best", "cross_entropy_val", "val_bpb", "bits_per_byte", "eval/logloss", "brier_score"],
)  # fmt: skip
def test_what_tools_call_a_loss_is_better_where_it_is_smaller(name: str) -> None:
    """A loss below 1 would else pass for an accuracy, and every verdict would be turned round."""
    assert direction(name) is False and direction(name, True) is True


@pytest.mark.parametrize(
    "name",
    ["accuracy", "val_acc_epoch", "summary.test_accuracy", "mAP", "F1Score", "error_detection_f1", "loss_reduction"],
)
def test_what_tools_call_a_score_is_better_where_it_is_larger(name: str) -> None:
    assert direction(name) is True and direction(name, False) is False
