"""`reinvest compare --prices`: money beside seconds, and devices without a price refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from calling import Call

from reinvest.core.hardware import facts

STUDY: dict[str, Any] = {
    "title": "Priced",
    "baseline": {"task": {"name": "digits", "train_examples": 96}, "model": "mlp", "batch_size": 32},
    "arms": {"smooth": {"methods": [{"LabelSmoothing": {"alpha": 0.1}}]}},
    "durations": ["1ep", "2ep", "4ep", "8ep"],
    "seeds": 3,
}


@pytest.fixture
def study(call: Call) -> Call:
    Path("study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return call


def prices(device: str) -> None:
    Path("prices.yaml").write_text(yaml.safe_dump({"currency": "EUR", "per_hour": {device: 3600.0}}))


def test_money_is_in_the_answer_the_result_and_the_command(study: Call) -> None:
    device = facts()["hardware"]["device"]
    prices(device)
    said = study("compare", "study.yaml", "--prices", "prices.yaml", "--workers", "1", "--json")
    costs = json.loads(Path("study.json").read_text())["costs"]
    assert said.data["costs"] == costs and costs["currency"] == "EUR" and costs["device"]["name"] == device
    base = costs["arms"]["baseline"]
    # At one euro a second the money is the seconds; a CPU tells no energy.
    assert base["money"]["value"] == pytest.approx(base["seconds"]["value"])
    assert base["energy"] is None and base["memory"]["of"] == "process" and base["memory"]["value"] > 10**6
    assert json.loads(Path("study.json").read_text())["reproduce"]["command"].endswith("--prices prices.yaml")
    again = study("compare", "study.yaml", "--workers", "1")
    assert "Cost at equal quality" in again.out and "EUR" not in again.out


def test_a_device_without_a_price_is_refused_before_anything_is_trained(study: Call) -> None:
    prices("Some other device")
    for words in ((), ("--dry-run",)):
        said = study("compare", "study.yaml", "--prices", "prices.yaml", *words)
        assert (
            said.code == 2
            and "money needs a price for the device" in said.sentence
            and "Some other device" in said.sentence
        )
    assert not Path("runs").exists()
    assert "which does not exist" in study("compare", "study.yaml", "--prices", "none.yaml").sentence
