"""`reinvest compare --systems`: arms that claim to alter speed alone are tested, and the report says what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from calling import Call

STUDY: dict[str, Any] = {
    "title": "Small",
    "baseline": {
        "task": {"name": "digits", "train_examples": 96},
        "model": "mlp",
        "batch_size": 32,
        "optimizer": {"name": "sgd", "lr": 0.05},
    },
    "arms": {"loose": {"methods": [{"GradientClipping": {"norm": 1e9}}]}},
    "durations": ["2ep", "4ep", "8ep", "16ep"],
    "seeds": 3,
    "pairs": "duration",
    "metric": "loss",
}


def write(**changes: Any) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))


def test_a_declared_arm_is_tested_and_the_report_says_so(call: Call) -> None:
    """Clipping at a norm that is never reached leaves every bit as it was: with equal seeds the same maths."""
    write()
    answer = call("compare", "study.yaml", "--workers", "1", "--systems", "loose", "--no-again", "--json").data
    found = answer["systems"]["loose"]
    assert found["maths"]["result"] == "bit-identical" and found["steps"] == 1.0 and found["steps_low"] < 1
    # Three seeds of runs this short are too few to show it; nothing says otherwise.
    assert found["outcome"] not in ("quality differs", "not comparable") and found["sentence"].endswith(".")
    assert answer["timing"]["again"] is None
    result = json.loads(Path("study.json").read_text())
    assert result["reproduce"]["command"].endswith("--systems loose --no-again")
    assert "systems_only: true" in result["reproduce"]["study"]
    assert "Declared to alter speed alone" in Path("study.html").read_text()
    # Declared in the file instead, with the runs that are there; the terminal says both checks.
    write(arms={"loose": {**STUDY["arms"]["loose"], "systems_only": True}})
    said = call("compare", "study.yaml", "--workers", "1")
    words = " ".join(said.out.split())
    assert (
        "loose, declared to alter speed alone" in words
        and "After 4 steps with one seed the weights are bit-identical." in words
    )
    assert "The clock against itself: a second baseline takes" in words


def test_an_unknown_arm_is_refused_before_anything_runs(call: Call) -> None:
    write()
    said = call("compare", "study.yaml", "--systems", "other")
    assert said.code and "unknown arm in systems_only 'other'" in said.sentence and "loose" in said.sentence
    assert not Path("runs").exists()
