"""A timing block is kept and used again, so that judging the same runs twice says the same; measuring anew is counted."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reinvest as ri
from reinvest.evaluation import blocks
from reinvest.evaluation.blocks import Timing, from_plain, timed, to_plain
from reinvest.evaluation.compare import compare
from reinvest.evaluation.judged import earlier, other_blocks, remember
from reinvest.evaluation.timing import ArmTiming, Block
from reinvest.loop.session import sources_of

BASE = ri.Recipe(
    task="digits", model={"name": "mlp", "hidden": [16]}, batch_size=64, optimizer={"name": "sgd", "lr": 0.05}
)
ARMS = {"base": BASE, "smooth": BASE.with_("LabelSmoothing")}
QUIET = {"others": 0.0, "load": 0.1, "share": 1.0, "cores": 2}


class Clock:
    """Blocks of any ratio, in the order that they are asked for; counts them."""

    def __init__(self, *ratios: float, flags: tuple[str, ...] = (), before: Mapping[str, Any] = QUIET) -> None:
        self.ratios, self.flags, self.before, self.asked = list(ratios), flags, before, 0

    def __call__(self, recipes: Mapping[str, Any], baseline: str, *, rounds: int, **_: Any) -> Block:
        self.asked += 1
        ratio = self.ratios.pop(0)
        strata = {("", tenth): 1.0 for tenth in range(10)}
        arms = {
            n: ArmTiming(dict.fromkeys(strata, 1.0 if n == baseline else ratio), 1.0 if n == baseline else ratio,
                         0.0 if n == baseline else math.log(ratio), 1e-6, 7.0)
            for n in recipes
        }  # fmt: skip
        return Block(rounds, "cpu", 1.0, arms, [], None, self.flags, {"before": dict(self.before)})


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return ri.Store(tmp_path / "runs")


def ask(clock: Clock, store: Any, monkeypatch: pytest.MonkeyPatch, arms: Any = ARMS, **timing: Any) -> Block:
    monkeypatch.setattr(blocks, "timing_block", clock)
    return timed(arms, "base", Timing(**timing), "cpu", store)


def test_an_undisturbed_block_is_measured_once(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.25, 1.5)
    first, second = ask(clock, store, monkeypatch), ask(clock, store, monkeypatch)
    assert clock.asked == 1
    assert second.arms == first.arms and second.facts == first.facts
    assert first.notes == [] and len(second.notes) == 1
    assert (
        second.notes[0].startswith(f"measured on {first.facts['measured'][:10]} ") and "used again" in second.notes[0]
    )
    third = ask(clock, store, monkeypatch, anew=True)
    assert clock.asked == 2 and third.arms["smooth"].seconds_per_step == 1.5
    assert ask(clock, store, monkeypatch).arms == third.arms


def test_a_disturbed_block_serves_once(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.25, 1.5, flags=("timing disturbed: it rained",))
    first = ask(clock, store, monkeypatch)
    assert first.notes == ["disturbed, and so not kept: the next comparison measures again"]
    assert ask(clock, store, monkeypatch).arms["smooth"].seconds_per_step == 1.5 and clock.asked == 2


def test_a_machine_that_is_evenly_busy_disturbs_nothing(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.25, 1.5, before={**QUIET, "others": 1.5})
    assert ask(clock, store, monkeypatch).arms == ask(clock, store, monkeypatch).arms and clock.asked == 1


def test_measuring_again_because_something_disturbed_is_held_against_nobody(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {"durations": ["8st", "16st", "32st", "64st"], "seeds": 4, "store": store, "workers": 1}
    monkeypatch.setattr(blocks, "timing_block", Clock(1.0, 1.1, flags=("timing disturbed: it rained",)))
    compare(BASE, {"smooth": ARMS["smooth"]}, **told)
    compare(BASE, {"smooth": ARMS["smooth"]}, **told)
    monkeypatch.setattr(blocks, "timing_block", Clock(1.2, 1.3))
    quiet = compare(BASE, {"smooth": ARMS["smooth"]}, **told)
    assert not any("another time" in flag for flag in quiet["smooth"].flags)
    again = compare(BASE, {"smooth": ARMS["smooth"]}, time_again=True, **told)
    assert any("judged once before" in flag for flag in again["smooth"].flags)


def test_whatever_the_ratio_depends_on_asks_for_another_block(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(*[1.1] * 20)
    ask(clock, store, monkeypatch)
    ask(clock, store, monkeypatch, arms=dict(reversed(ARMS.items())))
    assert clock.asked == 1
    ask(clock, store, monkeypatch, rounds=11)
    ask(clock, store, monkeypatch, again=False)
    ask(clock, store, monkeypatch, arms={**ARMS, "smooth": BASE.with_(ri.LabelSmoothing(0.2))})
    ask(clock, store, monkeypatch, arms={**ARMS, "other": BASE})
    ask(clock, store, monkeypatch, arms={n: replace(r, duration="64st") for n, r in ARMS.items()})
    assert clock.asked == 6
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        ask(clock, store, monkeypatch)
    finally:
        torch.set_num_threads(threads)
    assert clock.asked == 7
    monkeypatch.setattr(blocks, "_package", lambda: "another source")
    ask(clock, store, monkeypatch)
    assert clock.asked == 8


def layers(path: Path, hidden: int) -> None:
    """A user's model in its file; a process that begins after an edit has the new one, as a reload has it here."""
    path.write_text(
        "from torch import nn\n\n\ndef make(input_shape, classes):\n"
        f"    return nn.Sequential(nn.Flatten(), nn.Linear(64, {hidden}), nn.ReLU(), nn.Linear({hidden}, classes))\n"
    )
    importlib.invalidate_caches()
    importlib.reload(importlib.import_module(path.stem))


def own_arms() -> dict[str, ri.Recipe]:
    own = BASE.with_(model="model_of_a_block:make")
    return {"base": own, "smooth": own.with_("LabelSmoothing")}


def test_a_users_model_that_was_edited_is_timed_again(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    clock, file = Clock(1.1, 1.9), tmp_path / "model_of_a_block.py"
    layers(file, 16)
    ask(clock, store, monkeypatch, arms=own_arms())
    ask(clock, store, monkeypatch, arms=own_arms())
    assert clock.asked == 1
    layers(file, 2048)
    assert ask(clock, store, monkeypatch, arms=own_arms()).arms["smooth"].seconds_per_step == 1.9


def test_a_recipe_of_built_in_names_has_no_files_of_its_own() -> None:
    assert sources_of(BASE) == sources_of(BASE.with_(schedule="cyclic")) == sources_of(ARMS["smooth"]) == ""


def test_a_damaged_file_is_measured_again_and_a_full_disk_changes_nothing(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(1.1, 1.2, 1.3, 1.4)
    ask(clock, store, monkeypatch)
    (file,) = (store.path / "timed").iterdir()
    for text in ("{", "[]", '{"arms": 3}', json.dumps({**json.loads(file.read_text()), "facts": {}})):
        file.write_text(text)
        before = clock.asked
        if before == 4:
            break
        ask(clock, store, monkeypatch)
        assert clock.asked == before + 1
    assert store.verify() == []
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("no folder")
    assert ask(Clock(1.7), store, monkeypatch).arms["smooth"].seconds_per_step == 1.7


numbers = st.floats(allow_nan=False, min_value=1e-9, max_value=1e9)
arm_timings = st.builds(
    ArmTiming,
    st.dictionaries(st.tuples(st.sampled_from(["", "(0, 'teacher')"]), st.integers(0, 9)), numbers, min_size=1),
    numbers,
    st.floats(-5, 5),
    numbers,
    st.one_of(numbers, st.just(math.inf)),
    st.dictionaries(st.sampled_from(["cpu", "wall"]), numbers),
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), arm_timings, max_size=3), st.one_of(st.none(), arm_timings))
def test_a_block_comes_back_bit_for_bit(arms: dict[str, ArmTiming], again: ArmTiming | None) -> None:
    block = Block(12, "wall", 3.25, arms, ["a note"], again, ("a flag",), {"before": QUIET, "measured": "now"})
    assert from_plain(json.loads(json.dumps(to_plain(block)))) == block


def study(**more: Any) -> Any:
    whole = {"baseline": BASE, "arms": {"smooth": ARMS["smooth"]}, "durations": ["4st", "8st", "16st", "32st"]}
    return ri.Study(**(whole | {"seeds": 3} | more))


def test_verdicts_with_seconds_measured_another_time_are_told(store: Any) -> None:
    asked = study()
    assert other_blocks(asked, 3, "monday", store) == {"smooth": []}
    remember(asked, 3, store, "monday", {"smooth": "worse"})
    assert other_blocks(asked, 3, "monday", store) == {"smooth": []}
    (flag,) = other_blocks(asked, 3, "tuesday", store)["smooth"]
    assert flag.startswith("judged once before on these runs, with seconds measured another time (worse): ")
    remember(asked, 3, store, "tuesday", {"smooth": "inconclusive"})
    (flag,) = other_blocks(asked, 3, "wednesday", store)["smooth"]
    assert flag.startswith(
        "judged 2 times before on these runs, with seconds measured another time (worse, inconclusive)"
    )
    assert other_blocks(asked, 4, "wednesday", store) == {"smooth": []}


def test_verdicts_on_runs_of_a_model_before_its_edit_are_not_told(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "model_of_a_block.py"
    layers(file, 16)
    own = own_arms()
    asked = study(baseline=own["base"], arms={"smooth": own["smooth"]})
    remember(asked, 3, store, "monday", {"smooth": "worse"})
    assert len(earlier(asked, 3, "tuesday", store)["smooth"]) == 1 and len(earlier(asked, 5, "", store)["smooth"]) == 1
    layers(file, 2048)
    assert earlier(asked, 3, "tuesday", store) == {"smooth": []} == earlier(asked, 5, "", store)


def test_a_comparison_repeated_says_the_same_and_one_timed_again_says_so(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(1.0, 1.6)
    monkeypatch.setattr(blocks, "timing_block", clock)
    told: dict[str, Any] = {"durations": ["8st", "16st", "32st", "64st"], "seeds": 4, "store": store, "workers": 1}
    first = compare(BASE, {"smooth": ARMS["smooth"]}, **told)
    second = compare(BASE, {"smooth": ARMS["smooth"]}, **told)
    assert {n: v.to_dict() for n, v in first.items()} == {n: v.to_dict() for n, v in second.items()}
    assert clock.asked == 1 and not any("another time" in flag for flag in second["smooth"].flags)
    assert first["smooth"].seconds_ratio == pytest.approx(1.0)
    third = compare(BASE, {"smooth": ARMS["smooth"]}, time_again=True, **told)
    assert clock.asked == 2 and third["smooth"].seconds_ratio == pytest.approx(1 / 1.6)
    (flag,) = [flag for flag in third["smooth"].flags if "another time" in flag]
    assert f"({first['smooth'].verdict})" in flag
    assert flag in third.result["arms"]["smooth"]["verdict"]["flags"]
