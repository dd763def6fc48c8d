"""What the README shows is run as it stands; only the sizes are made small."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import reinvest as ri

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def block(words: str) -> str:
    found = [b for b in BLOCKS if words in b]
    assert len(found) == 1, f"{len(found)} blocks hold {words!r}"
    return found[0]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = [(torch.randn(8, 3, 16, 16), torch.randint(5, (8,))) for _ in range(3)]
    return {
        "model": model,
        "optimizer": optimizer,
        "loader": loader,
        "scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer),
        "evaluate": lambda m: 0.5,
        "test": lambda m: 0.5,
    }


def test_the_own_loop(names: dict[str, Any]) -> None:
    exec(block("my-birds"), names)
    run = names["run"].run
    assert run.status == "finished" and run.steps == 30
    assert run.quality("accuracy") == 0.5 and run.quality("accuracy", "validation") == 0.5


def test_the_closure(names: dict[str, Any]) -> None:
    methods = names["methods"] = ri.Methods(ri.SAM(0.05))
    with methods.attach(names["model"], names["optimizer"], duration="1ep", data=names["loader"], seed=0):
        for x, y in methods.batches(names["loader"]):
            exec(block("def closure"), names | {"x": x, "y": y})
        assert methods.context.step == 3


def test_the_library_loop_and_the_comparison(names: dict[str, Any]) -> None:
    exec("import reinvest as ri\nstore = ri.Store('runs')", names)
    exec(block("run = ri.train(recipe").replace("10ep", "20st"), names)
    assert names["run"].status == "finished"
    small = block("verdicts = ri.compare").replace('"3ep", "6ep", "12ep", "24ep"', '"4st", "8st", "16st", "32st"')
    exec(small.replace("seeds=5", "seeds=3, workers=1"), names)
    assert set(names["verdicts"]) == {"sam"}
    assert Path("report.html").stat().st_size > 1e6 and Path("report.json").exists()


def test_points_of_any_trainer(names: dict[str, Any]) -> None:
    rows = [
        {"arm": arm, "duration": d, "seed": f"{arm}{s}", "seconds": d, "quality": 0.5 + d / 100 + s / 1000}
        for arm in ("plain", "mine")
        for d in (5, 10, 20, 40)
        for s in range(3)
    ]
    names.update(ri=ri, points=rows)
    assert eval(block('["mine"].speedup').strip(), names) == 1.0


def test_own_data_and_model(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mine")
    module.load_my_tensors = lambda: (torch.randint(256, (60, 3, 8, 8), dtype=torch.uint8), torch.arange(60) % 3)  # type: ignore[attr-defined]
    module.MyNet = lambda shape, classes, width: nn.Sequential(
        nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes)
    )  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    (Path("mine.py")).write_text(block("def birds"))
    exec(compile(block("def birds"), "mine.py", "exec"), module.__dict__)
    recipe = ri.Recipe(task="mine:birds", model={"name": "mine:net", "width": 64}, duration="2ep", batch_size=8)
    assert ri.train(recipe, 0, ri.Store("runs")).status == "finished"


def test_every_command_of_the_readme_exists() -> None:
    from reinvest.cli.main import COMMANDS

    for words in re.findall(r"^reinvest (\w+)", README, flags=re.M) + re.findall(r"`reinvest (\w+)", README):
        assert any(name.split()[0] == words for name in COMMANDS), words
    for path in re.findall(r"(?:examples|docs|src|tests|benchmarks)/[\w/.]+\w", README):
        assert (ROOT / path).exists(), path


def test_re_use(names: dict[str, Any]) -> None:
    exec("import reinvest as ri\nstore = ri.Store('runs')", names)
    names["recipe"] = ri.Recipe(task="digits", model="mlp", duration="1ep", batch_size=64)
    ri.train(names["recipe"], 0, names["store"], progress=False)
    exec(block("past = store.best("), names)
    past = names["past"].id
    hows = {name: [(r["run"], r["how"]) for r in names[name].reuse] for name in ("taught", "warm", "hard")}
    assert hows == {"taught": [(past, "records")], "warm": [(past, "warm start")], "hard": [(past, "data")]}
    assert all(names[name].parents == [past] for name in hows)


def test_the_commands_of_re_use_exist() -> None:
    from reinvest.cli.main import COMMANDS

    wanted = re.findall(r"^reinvest (\w+)", README, flags=re.M)
    assert {"advise", "sequence"} <= set(wanted) and set(wanted) <= set(COMMANDS)


def test_the_number_of_methods_is_that_of_the_catalogue() -> None:
    from reinvest.methods._catalog import catalog

    counted = [m for m in catalog.values() if not m.card.experimental and not m.diagnostic]
    assert f"puts {len(counted)} efficiency methods into" in README
