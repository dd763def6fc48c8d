"""What cannot be planted, and bases that cannot be changed: refused with the reason."""

from __future__ import annotations

import pytest
from planted_bases import (
    OWN,
    here,
)
from written_texts import write_books

from reinvest.core.errors import InvalidValue, UnknownName
from reinvest.testbed.tasks.planted import planted


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"label_noise": 1.0}, InvalidValue, "label_noise is a share .* from 0 to below 1, got 1.0"),
        ({"label_noise": -0.1}, InvalidValue, "got -0.1"),
        ({"label_noise": True}, InvalidValue, "got True"),
        ({"label_noise": float("nan")}, InvalidValue, "got nan"),
        ({"label_noise": "0.2"}, InvalidValue, "got '0.2'"),
        (
            {"label_noise": 0.0001},
            InvalidValue,
            "1200 training examples that makes 1 to 1200 .* got 0.0001, which makes 0",
        ),
        ({"corrupted": 2}, InvalidValue, "corrupted is a share"),
        ({"label_noise": 0.6, "corrupted": 0.5}, InvalidValue, "makes 1 to 480 of them .* got 0.5, which makes 600"),
        ({"noise": "asymmetric"}, UnknownName, "kind of label noise 'asymmetric'.*class dependent"),
        ({"pairs": [1, 0, 1, 1, 1]}, InvalidValue, "pairs belong to class dependent noise, got symmetric"),
        (
            {"label_noise": 0.1, "noise": "class dependent", "pairs": [1, 0]},
            InvalidValue,
            r"one class for each of 5.*\[1, 0\]",
        ),
        ({"label_noise": 0.1, "noise": "class dependent", "pairs": [1, 0, 5, 1, 1]}, InvalidValue, "from 0 to 4"),
        ({"label_noise": 0.1, "noise": "class dependent", "pairs": [0, 1, 2, 3, 4]}, InvalidValue, "1 to 0 of them"),
        ({"noise_std": 0.0}, InvalidValue, "noise_std is a standard deviation above 0, got 0.0"),
        ({"noise_std": float("inf")}, InvalidValue, "got inf"),
        ({"planted_seed": 0.5}, InvalidValue, "planted_seed is a whole number, got 0.5"),
        ({"probes": 5}, InvalidValue, "probes are {'kinds'.*got 5"),
        ({"probes": {"number": 5}}, UnknownName, "setting of probes 'number'"),
        ({"probes": {"kinds": "noise"}}, InvalidValue, "a list of names, got 'noise'"),
        ({"probes": {"kinds": ["rotated"]}}, UnknownName, "out of distribution"),
        ({"probes": {"count": 400}}, InvalidValue, "need 2400 examples, got 1200"),
        ({"probes": {"count": 0}}, InvalidValue, "from 1 up, got 0"),
        ({"probes": {"kinds": ["typical"], "count": 3}}, InvalidValue, "chosen by scores of an earlier run"),
        (
            {"probes": {"kinds": ["typical"], "count": 3, "scores": [1.0]}},
            InvalidValue,
            "each of the 2000 ids .* got 1 values",
        ),
        ({"probes": {"kinds": ["typical"], "count": 3, "scores": 1.0}}, InvalidValue, "got float"),
        ({"correction": 3}, InvalidValue, "correction is the path of a file, got 3"),
        ({"drop": ""}, InvalidValue, "drop is the path of a file, got ''"),
    ],
)
def test_values_that_cannot_be_planted_are_refused(options, error, rule):
    with pytest.raises(error, match=rule) as raised:
        planted(base=OWN, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("base", "error", "rule"),
    [
        (None, InvalidValue, "made from another task, got base None; name it, for example"),
        ({"size": 16}, InvalidValue, "got base {'size': 16}"),
        ("cifar11", UnknownName, "did you mean"),
        ({"name": "digits", "size": 16}, UnknownName, "argument of task 'digits' 'size'"),
        (here("no_task"), InvalidValue, "made by ri.Task.from_tensors .*got TensorDataset"),
        (here("maps"), InvalidValue, r"the one label .* got 'maps' with targets of shape \[6, 5\] an example"),
        (here("map_items"), InvalidValue, r"got 'map items' with targets of shape \[6, 5\]"),
        ({"name": "planted", "base": "digits"}, InvalidValue, "another planted one, 'digits'"),
    ],
)
def test_bases_that_cannot_be_changed_are_refused(base, error, rule):
    with pytest.raises(error, match=rule):
        planted(base=base, label_noise=0.1)


def test_texts_with_a_target_a_token_are_refused(tmp_path):
    with pytest.raises(
        InvalidValue, match=r"the one label .* with targets of shape \[16\] an example; take another base"
    ):
        planted(base={"name": "books", "folder": str(write_books(tmp_path)), "length": 16}, label_noise=0.1)


@pytest.mark.parametrize(
    ("base", "got"), [("features", r"\[90\]"), ("read_one_by_one", r"\[3, 6, 5\] read one by one")]
)
def test_inputs_that_are_no_pictures_in_memory_are_not_spoiled(base, got):
    for options in ({"corrupted": 0.1}, {"probes": {"kinds": ["blur"], "count": 2}}):
        with pytest.raises(InvalidValue, match=f"with inputs {got}; plant wrong labels alone"):
            planted(base=here(base), **options)
    assert int(planted(base=here(base), probes={"kinds": ["random label"], "count": 2}).planted.probes.ids.numel()) == 4
