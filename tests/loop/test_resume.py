"""A run killed with SIGKILL at a random (seeded) step and resumed is the uninterrupted run, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.store import Store

COMMAND = """
import json, sys, torch
torch.set_num_threads(1)
from reinvest.core.recipe import Recipe
from reinvest.loop.train import train
from reinvest.store import Store
train(Recipe.from_dict(json.loads(sys.argv[2])), seed=11, store=Store(sys.argv[1]), checkpoint_seconds=0.0)
"""
CASES: dict[str, dict[str, Any]] = {
    "sgd, conv net with dropout and batch norm": {"model": "stopper:dropout_net"},
    "adamw in bf16": {
        "model": {"name": "mlp", "hidden": [32]},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "precision": "bf16",
        "schedule": "one_cycle",
    },
    "averages, soft targets and mixed examples": {
        "model": "stopper:dropout_net",
        "methods": [{"name": "EMA", "half_life": "10st"}, "Mixup", "LabelSmoothing"],
    },
}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_equals_uninterrupted(case: str, users: Path, tmp_path: Path, store: Store) -> None:
    recipe = Recipe(task="digits", duration="6ep", batch_size=100, **CASES[case]).with_("stopper:Stopper")
    # Ten steps an epoch and a checkpoint at every 16th step: the run goes on in the middle of an epoch.
    step = random.Random(case).randrange(17, 60)
    environment = os.environ | {"STOPPER": f"kill {step}", "PYTHONPATH": os.pathsep.join([str(users), *sys.path])}
    killed = subprocess.run(
        [sys.executable, "-c", COMMAND, str(tmp_path / "runs"), json.dumps(recipe.to_dict())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (before,) = store.runs()
    assert before.status == "interrupted" and (before.path / "state.pt").exists()

    run = train(recipe, seed=11, store=store)
    whole = train(recipe, seed=11, store=Store(tmp_path / "whole"))
    assert run.id == before.id and run.status == whole.status == "finished" and run.identity == whole.identity
    assert (run.path / "weights.safetensors").read_bytes() == (whole.path / "weights.safetensors").read_bytes()
    tables = [r.path / "records.safetensors" for r in (run, whole)]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    assert run.records().has_rows == ("mixed" not in case)  # of mixed examples only hashes and splits are kept
    curves = [[{k: v for k, v in e.items() if k != "seconds"} for e in r.curve] for r in (run, whole)]
    assert curves[0] == curves[1]
    assert run.steps == whole.steps == 60
    assert run.seconds is not None and whole.seconds is not None and 0 < run.seconds < 20 * whole.seconds
