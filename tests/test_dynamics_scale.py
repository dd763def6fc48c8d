"""The benchmark of training dynamics at scale runs, here at a small size; its figures are of another machine and day."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from page_writers import writer_of


def test_every_figure_is_printed_and_answers_are_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = "--examples 700 --epochs 30 --probes 120,250 --threads 1 --subset 300 --series 20 --repeats 1"
    monkeypatch.setattr(sys, "argv", ["dynamics_scale", *sizes.split()])
    before = torch.get_num_threads()
    writer_of("dynamics_scale").main()
    assert torch.get_num_threads() == before
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["benchmark"] for line in lines} == {"dynamics_scale"}
    by: dict[str, list[dict[str, object]]] = {}
    for line in lines:
        by.setdefault(line["figure"], []).append(line)
    assert {figure: len(rows) for figure, rows in by.items()} == {
        "scan": 6, "nearest": 2, "warping": 4, "pairs": 1, "classes": 1, "groups": 1, "words": 1,
    }  # fmt: skip
    assert [line["same_neighbours"] for line in by["nearest"]] == [1.0, 1.0]
    recall = [line["recall"] for line in by["warping"] if line["among"] != "exact"]
    assert recall == sorted(recall) and recall[-1] > recall[0]  # type: ignore[type-var]
    assert by["groups"][0]["smallest"] > 0 and by["words"][0]["different"] > 1  # type: ignore[operator]
