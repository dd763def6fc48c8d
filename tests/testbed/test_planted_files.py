"""Lists of corrected labels and of dropped examples: what they change, and which files are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_bases import (
    CLASSES,
    OWN,
    ids_of,
    of,
    own,
    same_batches,
)

import reinvest as ri
from reinvest.core.errors import DataError
from reinvest.loop.session import build_task
from reinvest.testbed.tasks.planted import planted


def write(path, ids, labels=None):
    columns = [ids] if labels is None else [ids, labels]
    if path.suffix == ".npy":
        np.save(path, np.stack([np.asarray(c) for c in columns], 1) if labels is not None else np.asarray(ids))
    else:
        rows = [",".join(["id"] if labels is None else ["score", "label", "id"])]
        rows += [f"{i}" if labels is None else f"0.5,{labels[k]},{i}" for k, i in enumerate(ids)]
        path.write_text("\n".join(rows) + "\n", encoding="utf8")
    return str(path)


@pytest.mark.parametrize("name", ["labels.csv", "labels.npy"])
def test_a_correction_replaces_labels_after_planting(tmp_path, name):
    noisy = planted(base=OWN, label_noise=0.2, corrupted=0.1)
    truth = noisy.planted
    wrong = truth.relabelled.nonzero()[:, 0]
    mended, missed = wrong[:150], wrong[150:]
    right = (~truth.relabelled).nonzero()[:, 0]
    harmed = right[torch.isin(right, noisy.splits["train"])][:7]
    new = torch.cat([truth.clean_labels[mended], (truth.clean_labels[harmed] + 2) % CLASSES])
    path = write(tmp_path / name, torch.cat([mended, harmed]).tolist(), new.tolist())
    task = planted(base=OWN, label_noise=0.2, corrupted=0.1, correction=path)
    assert ids_of(task.planted.labels != task.planted.clean_labels) == set(missed.tolist()) | set(harmed.tolist())
    assert torch.equal(task.planted.relabelled, truth.relabelled) and torch.equal(
        task.planted.corrupted, truth.corrupted
    )
    train = task.splits["train"]
    assert torch.equal(train, noisy.splits["train"]) and torch.equal(of(task, train)[1], task.planted.labels[train])
    assert torch.equal(of(task, train)[0], of(noisy, train)[0])
    assert len({t.name for t in (own(), noisy, task)}) == len({t.fingerprint for t in (own(), noisy, task)}) == 3
    assert torch.equal(task.hashes(mended) == own().hashes(mended), ~truth.corrupted[mended])


def test_a_correction_alone_makes_a_task_of_its_own(tmp_path):
    base = own()
    train = base.splits["train"]
    task = planted(base=OWN, correction=write(tmp_path / "a.csv", train[:3].tolist(), [0, 0, 0]))
    assert task.name != base.name and task.planted.labels[train[:3]].tolist() == [0, 0, 0]
    other = planted(base=OWN, correction=write(tmp_path / "a.csv", train[:3].tolist(), [1, 0, 0]))
    assert other.fingerprint != task.fingerprint and other.name != task.name


@pytest.mark.parametrize("name", ["ids.csv", "ids.npy"])
def test_dropped_examples_leave_the_training_split_and_nothing_else(tmp_path, name):
    noisy = planted(base=OWN, label_noise=0.2)
    wrong = noisy.planted.relabelled.nonzero()[:, 0]
    task = planted(base=OWN, label_noise=0.2, drop=write(tmp_path / name, wrong.tolist()))
    train = noisy.splits["train"]
    assert torch.equal(task.splits["train"], train[~noisy.planted.relabelled[train]])
    assert torch.equal(task.planted.relabelled, noisy.planted.relabelled)
    assert torch.equal(task.view.hashes(), noisy.view.hashes()) and task.fingerprint != noisy.fingerprint
    assert task.name == noisy.name  # ids and rows are the same, so that records of the noisy run fit
    assert int((task.view.roles() == 1).sum()) == len(train) - len(wrong)
    np.save(tmp_path / "marks.npy", noisy.planted.relabelled.numpy())
    marked = planted(base=OWN, label_noise=0.2, drop=str(tmp_path / "marks.npy"))
    assert torch.equal(marked.splits["train"], task.splits["train"])
    alone = planted(base=OWN, drop=str(tmp_path / name))
    assert alone.name == "own" and alone.fingerprint not in (own().fingerprint, task.fingerprint)


def test_ids_of_other_portions_are_passed_over(tmp_path):
    whole, part = planted(base="digits"), {"name": "digits", "train_examples": 300}
    ids = whole.splits["train"].tolist()
    task = planted(base=part, correction=write(tmp_path / "a.csv", ids, [3] * len(ids)))
    inside = torch.zeros(1797, dtype=torch.bool)
    inside[task.splits["train"]] = True
    assert torch.equal(task.planted.labels, torch.where(inside, 3, task.planted.clean_labels))
    with pytest.raises(DataError, match="keeps at least one example, got all 300 in drop"):
        planted(base=part, drop=write(tmp_path / "b.csv", ids))


TEST, TRAIN = int(own().splits["test"][0]), int(own().splits["train"][0])


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.csv", "id,label\n{train},5\n", "labels are whole numbers from 0 to classes - 1 = 4, got 5"),
        ("a.csv", "id,label\n2000,1\n", "correction names examples of the task, ids 0 to 1999, got 2000"),
        ("a.csv", "id,label\n-1,1\n", r"ids 0 to 1999, got -1\.\.-1"),
        (
            "a.csv",
            "id,label\n{test},1\n",
            "about training examples, got 1 of the validation or test split, the first {test}",
        ),
        ("a.csv", "id,label\n{train},1\n{train},1\n", "names an example once, got id {train} 2 times"),
        ("a.csv", "id,label\n{train},cat\n", "whole numbers, got '{train},cat' in line 2 of"),
        ("a.csv", "id,label\n{train}\n", "whole numbers, got '{train},' in line 2 of"),
        ("a.csv", "id,class\n{train},1\n", "the columns id, label.*got the header 'id,class'"),
        ("a.csv", "", "got the header ''"),
        ("a.npy", b"nothing", "the columns id, label, or a .npy file"),
        ("a.npy", np.zeros((3, 3), np.int64), r"got int64 \[3, 3\]"),
        ("a.npy", np.zeros((3, 2)), r"got float64 \[3, 2\]"),
        ("a.npy", np.zeros(3, bool), r"got bool \[3\]"),
        ("a.npy", np.zeros(3, [("id", "<i8"), ("class", "<i8")]), "got the columns id, class"),
        ("none.csv", None, "correction is a file that can be read, got .*none.csv"),
    ],
)
def test_corrections_of_another_form_are_refused(tmp_path, name, content, rule):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.format(test=TEST, train=TRAIN).encode())
    with pytest.raises(DataError, match=rule.replace("{test}", str(TEST)).replace("{train}", str(TRAIN))):
        planted(base=OWN, correction=str(path))


def test_named_columns_and_empty_lists_are_read(tmp_path):
    table = np.array([(2, TRAIN)], [("label", "<i2"), ("id", "<u4")])
    np.save(tmp_path / "a.npy", table)
    assert int(planted(base=OWN, correction=str(tmp_path / "a.npy")).planted.labels[TRAIN]) == 2
    (tmp_path / "b.csv").write_text("\ufeffID , Label\n\n", encoding="utf8")
    task = planted(base=OWN, correction=str(tmp_path / "b.csv"), drop=str(tmp_path / "b.csv"))
    assert same_batches(task, own())


def test_marks_of_a_split_alone_are_refused(tmp_path):
    train = own().splits["train"]
    marks = np.zeros(len(train), bool)
    marks[int((train != torch.arange(len(train))).nonzero()[0])] = True
    np.save(tmp_path / "marks.npy", marks)
    with pytest.raises(DataError, match=r"one for each of the 2000 ids of the task, got 1200 in .*; write ids instead"):
        planted(base=OWN, drop=str(tmp_path / "marks.npy"))


def test_probes_are_neither_corrected_nor_dropped(tmp_path):
    ids = planted(base=OWN, probes={"count": 3}).planted.probes.ids[:2].tolist()
    for option, path in (
        ("correction", write(tmp_path / "a.csv", ids, [0, 0])),
        ("drop", write(tmp_path / "b.csv", ids)),
    ):
        with pytest.raises(
            DataError, match=f"{option} leaves probes as they are, got 2 of their ids; leave out probes"
        ):
            planted(base=OWN, probes={"count": 3}, **{option: path})


def test_a_changed_file_of_corrections_makes_another_run_in_the_same_process(tmp_path):
    """The task is built once a process and spec, and a file of the same name may hold other labels by then."""
    path, store = tmp_path / "labels.csv", ri.Store(tmp_path / "runs")
    task = {"name": "planted", "base": "digits", "correction": str(path)}
    recipe = ri.Recipe(task=task, model={"name": "mlp", "hidden": [8]}, duration="2st", batch_size=32)
    ids = build_task(ri.Recipe(task="digits", model="mlp")).splits["train"][:3].tolist()
    found = []
    for label in (0, 1):
        path.write_text("id,label\n" + "".join(f"{i},{label}\n" for i in ids))
        found.append(ri.train(recipe, 0, store, progress=False))
    assert found[0].id != found[1].id
