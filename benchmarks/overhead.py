"""Cost of a training step against a hand-written loop: MLP 64-128-10, batch 64, one thread, CPU time, interleaved.

    python -m benchmarks.overhead [--pairs 9] [--out FILE]

Every variant is measured in its own interpreter. Inside one, hand-written and measured passes alternate, so that both
see the same machine; the figure is the median over pairs of the ratio of CPU seconds a step. The data stamp the clock
at batch 200 and at batch 2,200, so start-up and tear-down are outside, and no hook of ours is used for timing.
Prints one JSON line a variant: ratio, its quartiles, the microseconds behind it, and whether the weights agree.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WARM, TOTAL = 200, 2200
GOALS = {
    "own loop": 1.10,
    "own loop, recording": None,
    "train": 1.15,
    "train, recording": None,
    "three methods": 1.15,
    "three methods, recording": None,
    "hand again": None,
}


class Stamped:
    """An epoch of ready batches that notes the CPU time when batch WARM and batch TOTAL are asked for."""

    indexed = True
    start = 0

    def __init__(self, batches: list[Any], ids: bool) -> None:
        self.batches, self.ids, self.examples = batches, ids, 16 * 64
        self.indexed = ids
        self.stamps: list[float] = []

    def __len__(self) -> int:
        return TOTAL + 1

    def __iter__(self) -> Iterator[Any]:
        import torch

        rows = [torch.arange(k * 64, k * 64 + 64) for k in range(16)]
        for i in range(TOTAL + 1):
            if i in (WARM, TOTAL):
                self.stamps.append(time.process_time())
            x, y = self.batches[i % 16]
            yield (rows[i % 16], x, y) if self.ids else (x, y)

    @property
    def microseconds(self) -> float:
        """CPU microseconds a step between the two stamps."""
        return 1e6 * (self.stamps[1] - self.stamps[0]) / (TOTAL - WARM)


def make(seed: int = 0) -> tuple[Any, Any, list[Any]]:
    """The model, its optimizer and 16 batches of 64 examples."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    xs = torch.randn(16, 64, 64, generator=generator)
    ys = torch.randint(10, (16, 64), generator=generator)
    return model, torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), list(zip(xs, ys, strict=True))


def hand(model: Any, optimizer: Any, loader: Any) -> None:
    """The loop that everybody writes."""
    from torch import nn

    criterion = nn.CrossEntropyLoss()
    model.train()
    for x, y in loader:
        optimizer.zero_grad(set_to_none=True)
        criterion(model(x), y).backward()
        optimizer.step()


def hand_three(model: Any, optimizer: Any, loader: Any) -> None:
    """The same with label smoothing, clipping and an average of the weights, by hand."""
    import torch
    from torch import nn

    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    parameters = list(model.parameters())
    average = [p.detach().clone() for p in parameters]
    model.train()
    for x, y in loader:
        optimizer.zero_grad(set_to_none=True)
        criterion(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 0.01)


def own(methods: Any, recording: bool) -> Callable[[Any, Any, Any], None]:
    """Anyone's own loop with the three calls."""

    def run(model: Any, optimizer: Any, loader: Any) -> None:
        import reinvest as ri

        chain = ri.Methods(*methods)

        def loop() -> None:
            model.train()
            with chain.attach(model, optimizer, duration="1ep", data=loader, seed=0):
                for x, y in chain.batches(loader):
                    chain.loss(model(x), y).backward()
                    chain.step()

        if not recording:
            loop()
            return
        with tempfile.TemporaryDirectory() as folder, ri.Store(folder).record("bench", task="bench"):
            loop()

    return run


class BenchTask:
    """The batches above as a task, so that `train` can be measured on them."""

    name, metric, higher_is_better, classes = "bench", "accuracy", True, 10
    input_shape, fingerprint, test_examples = (64,), "0" * 16, 64
    latest: Stamped

    def __init__(self) -> None:
        self.batches = make()[2]

    def loader(self, split: str, batch_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0) -> Any:
        """A stamped epoch for training, one batch for the other splits."""
        import torch

        if split != "train":
            return [(torch.arange(64), *self.batches[0])]
        BenchTask.latest = Stamped(self.batches, ids=True)
        return BenchTask.latest

    def criterion(self, output: Any, target: Any) -> Any:
        """Per-example cross-entropy; replaced below by the library's own default."""
        raise AssertionError

    def score(self, output: Any, target: Any) -> Any:
        """Correctness [B]."""
        return (output.argmax(1) == target).float()


def bench_task() -> Any:
    """Task factory."""
    from reinvest import cross_entropy

    task = BenchTask()
    task.criterion = cross_entropy  # type: ignore[method-assign]
    return task


def bench_model(input_shape: Any, classes: int) -> Any:
    """Model factory."""
    return make()[0]


def library(recording: bool) -> Callable[..., Any]:
    """`ri.train` on the same batches; returns the stamped loader that it used."""

    def run(pass_number: int) -> Stamped:
        import reinvest as ri

        recipe = ri.Recipe(
            task="benchmarks.overhead:bench_task",
            model="benchmarks.overhead:bench_model",
            duration="1ep",
            batch_size=64,
            optimizer={"name": "sgd", "lr": 1e-3, "momentum": 0.9},
            schedule="constant",
        )
        with tempfile.TemporaryDirectory() as folder:
            ri.train(recipe, pass_number, ri.Store(folder), records=recording, evaluations=1, progress=False)
        # The recipe names this module, so its task is not the class of a script run as __main__.
        return importlib.import_module("benchmarks.overhead").BenchTask.latest

    return run


def one_pass(variant: str, number: int) -> tuple[float, float]:
    """CPU microseconds a step, and a checksum of the trained weights (nan for train, which makes its own)."""
    import reinvest as ri

    if variant.startswith("train"):
        return library("recording" in variant)(number).microseconds, float("nan")
    three = (ri.LabelSmoothing(0.1), ri.GradientClipping(norm=1.0), ri.EMA(decay=0.99))
    loops: dict[str, Callable[[Any, Any, Any], None]] = {
        "hand": hand,
        "hand again": hand,
        "hand three": hand_three,
        "own loop": own((), False),
        "own loop, recording": own((), True),
        "three methods": own(three, False),
        "three methods, recording": own(three, True),
    }
    model, optimizer, batches = make()
    loader = Stamped(batches, ids="recording" in variant)
    loops[variant](model, optimizer, loader)
    return loader.microseconds, float(sum(p.detach().double().abs().sum() for p in model.parameters()))


def measure(variant: str, pairs: int) -> dict[str, Any]:
    """Alternate the hand-written reference and the variant; the first pair only warms up."""
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reference = "hand three" if variant.startswith("three") else "hand"
    rows = []
    for k in range(pairs + 1):
        order = (reference, variant) if k % 2 == 0 else (variant, reference)
        got = {name: one_pass(name, k) for name in order}
        if k:
            rows.append((got[reference], got[variant]))
    ratios = [v[0] / r[0] for r, v in rows]
    quartiles = statistics.quantiles(ratios, n=4)
    sums = rows[0]
    return {
        "benchmark": "overhead",
        "variant": variant,
        "against": reference,
        "ratio": round(statistics.median(ratios), 4),
        "quartiles": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "goal": GOALS[variant],
        "hand_us": round(statistics.median(r[0] for r, _ in rows), 1),
        "us": round(statistics.median(v[0] for _, v in rows), 1),
        # train builds a model of its own, and EMA puts its average into the model at the end.
        "same_weights": None if variant.startswith(("train", "three")) else abs(sums[0][1] - sums[1][1]) < 1e-6,
        "pairs": pairs,
        "clock": "process CPU time, 1 thread",
        "torch": torch.__version__,
    }


def main() -> None:
    """Run every variant in its own interpreter, or one of them here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--variant", choices=sorted(GOALS))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.variant:
        print(json.dumps(measure(chosen.variant, chosen.pairs)), flush=True)
        return
    lines = []
    for variant in GOALS:
        command = [sys.executable, "-m", "benchmarks.overhead", "--variant", variant, "--pairs", str(chosen.pairs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = (
            done.stdout.strip().splitlines()[-1]
            if done.returncode == 0
            else json.dumps({"variant": variant, "error": done.stderr[-400:]})
        )
        print(line, flush=True)
        lines.append(line)
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
