"""docs/gate.md: rates as stored, exit codes as the command has them, and a workflow that parses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from reinvest.cli.gate import CODES, GATE
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


@pytest.mark.parametrize(("code", "job"), [(0, 0), (1, 1), (2, 0), (3, 3), (4, 4), (5, 5), (130, 130)])
def test_the_shell_lines_fail_the_job_when_they_should(code: int, job: int, tmp_path: Path) -> None:
    """A command that ends with this code, under the shell of such a job, which stops at the first failure."""
    stub = tmp_path / "reinvest"
    stub.write_text(f"#!/bin/sh\necho said $*\necho complained >&2\nexit {code}\n")
    stub.chmod(0o755)
    where = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    done = subprocess.run(
        ["bash", "-e", "-c", gate_step()], cwd=tmp_path, env=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == job, done
    assert ("::warning::undecided" in done.stdout) == (code == 2)
    summary = (tmp_path / "summary").read_text()
    for told in (done.stdout, summary):
        assert "said gate baseline.json recipe.yaml --out gate.html" in told and "complained" in told


def gate_step() -> str:
    """The shell lines of the step that calls the gate."""
    (text,) = re.findall(r"```yaml\n(.*?)\n```\n", TEXT, re.DOTALL)
    (job,) = yaml.safe_load(text)["jobs"].values()
    (lines,) = [step["run"] for step in job["steps"] if "reinvest gate" in step.get("run", "")]
    return str(lines)


def test_every_call_in_the_text_is_one_that_the_command_takes() -> None:
    calls = re.findall(r"reinvest gate [^\n`#>|]*", TEXT)
    known = set(GATE.parser("gate").options())
    asked = {word for call in calls for word in call.split() if word.startswith("--")}
    assert len(calls) >= 5 and {"--record", "--out", "--remake"} <= asked <= known
