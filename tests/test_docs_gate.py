"""docs/gate.md: rates as stored, exit codes as the command has them, and a workflow that parses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from reinvest.cli.gate import CODES
from reinvest.cli.main import BUG, OWN_CODES, REFUSED

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "gate.md").read_text(encoding="utf8")


def test_the_rates_are_those_that_are_stored() -> None:
    lines = (ROOT / "benchmarks" / "results" / "gate_rates.jsonl").read_text(encoding="utf8").splitlines()
    names = {"same recipe": "the same, other seeds", "learning rate x0.5": "learning rate halved"}
    told = 0
    for figure in map(json.loads, lines[:-1]):
        shares = [figure["shares"].get(word, 0.0) for word in ("regressed", "not regressed", "undecided")]
        row = f"| {figure['seeds']} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |"
        if figure["figure"] in names and not (figure["figure"] != "same recipe" and figure["seeds"] == 10):
            assert row in TEXT, figure
            told += 1
        assert figure["error"] <= 0.025 and figure["pool"] == 40
    assert told == 5
    timed = json.loads(lines[-1])
    cheaper, dearer = (round(timed["blocks"] * timed["shares"].get(word, 0.0)) for word in ("cheaper", "dearer"))
    assert f"Of {timed['blocks']} timing blocks" in TEXT and f"{cheaper} called it cheaper" in TEXT and dearer == 0
    assert f"a factor of {timed['width']:.3f}" in TEXT


def test_the_exit_codes_are_those_of_the_command() -> None:
    table = dict(re.findall(r"^\| (\d) \| ([a-z ]+): ", TEXT, re.MULTILINE))
    assert table == {str(code): word for word, code in CODES.items()}
    assert OWN_CODES["gate"] == {REFUSED: 4, BUG: 5} and "| 4, 5, 130 | refused" in TEXT


def test_the_workflow_is_yaml_whose_steps_call_the_gate() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)\n```\n", TEXT, re.DOTALL)
    (job,) = yaml.safe_load(text)["jobs"].values()
    assert any("reinvest gate baseline.json recipe.yaml" in step.get("run", "") for step in job["steps"])
