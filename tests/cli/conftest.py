"""Commands called in this process: `call("runs", "--json")` gives exit code, standard output and standard error."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import Call, Said

from reinvest.cli.main import main
from reinvest.store import Store


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REINVEST_DEBUG", raising=False)

    def run(*words: str) -> Said:
        capfd.readouterr()
        code = main(words)
        done = capfd.readouterr()
        return Said(code, done.out, done.err)

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Store:
    """A store of four runs in ./runs: a parent and its child, one that diverged, one interrupted."""
    store = Store(tmp_path / "runs")
    facts = {"hardware": {"device": "test"}, "software": {}}
    with store.record("first", task="birds", config={"lr": 0.1, "deep": {"a": [1, 2]}}, seed=1, facts=facts) as run:
        for step in range(1, 6):
            run.log(split="validation", step=step, accuracy=step / 10, loss=1.0 / step)
        run.log(split="test", step=5, accuracy=0.5)
    parent = run.run
    with store.record("second", task="birds", seed=2, parents=[parent], facts=facts) as run:
        run.log(split="validation", step=1, accuracy=0.75)
    with store.record("third", task="fish", seed=3, facts=facts) as run:
        run.log(split="validation", step=1, accuracy=float("nan"))
        run.finish("diverged")
    with pytest.raises(KeyboardInterrupt), store.record("fourth", task="fish", seed=4, facts=facts):
        raise KeyboardInterrupt
    store.close()
    return store
