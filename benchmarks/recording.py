"""What per-example records cost: a ResNet-8 step with them against one without, batch 128, one thread, CPU time.

    python -m benchmarks.recording [--blocks 7] [--steps 52] [--out FILE]

Two own loops, equal but for `store.record(records=...)`, are open at once in one process, and their steps alternate
(ABBA), so that both see the same machine. A block of 52 steps holds at least one transfer of what was gathered into
the tables, and every step is one of the last epochs, whose rows are kept too: the dearest case. The figure is the
median over blocks of the ratio of CPU seconds. Prints one JSON line a variant; `floor` is the same with recording on
neither side, `finish_ms` what ending the run costs (8-bit rows, hashing, writing).

Without a goal: sequences with a row a token (65 classes, and 5,000 of which the largest are kept) in a model whose
layers are small against its output layer, which makes the share of recording large.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VARIANTS: dict[str, float | None] = {
    "resnet8 32x32": 1.02,
    "resnet8 16x16": 1.02,
    "1,500 classes 16x16": None,
    "tokens, 65 classes": None,
    "tokens, 5,000 classes": None,
}
BATCH, BATCHES = 128, 8


class Epoch:
    """Ready batches with ids, over and over."""

    indexed = True
    start = 0

    def __init__(self, batches: list[Any], steps: int) -> None:
        self.batches, self.steps = batches, steps
        self.examples = sum(len(ids) for ids, _, _ in batches)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.steps):
            yield self.batches[i % len(self.batches)]


def make(variant: str) -> tuple[Any, list[Any]]:
    """The model, and batches (ids, x, y)."""
    import torch
    from torch import nn

    from reinvest.testbed.models.resnet import resnet8

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    if variant.startswith("tokens"):
        classes, length, size = (65 if "65" in variant else 5000), 64, 16
        body = nn.GRU(128, 128, batch_first=True)

        class Language(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inside, self.body, self.out = nn.Embedding(classes, 128), body, nn.Linear(128, classes)

            def forward(self, x: Any) -> Any:
                return self.out(self.body(self.inside(x))[0])

        model: Any = Language()
        with torch.no_grad():
            model.out.weight.mul_(60)  # as sure of itself as a trained one, so that the largest classes are enough
        xs = torch.randint(classes, (BATCHES, size, length), generator=generator)
        ys = torch.randint(classes, (BATCHES, size, length), generator=generator)
    else:
        pixels = 32 if "32x32" in variant else 16
        classes, size = (1500 if "1,500" in variant else 10), BATCH
        model = resnet8(input_shape=(3, pixels, pixels), classes=classes)
        if classes > 1000:
            with torch.no_grad():
                list(model.children())[-1].weight.mul_(60)
        xs = torch.randn(BATCHES, size, 3, pixels, pixels, generator=generator)
        ys = torch.randint(classes, (BATCHES, size), generator=generator)
    ids = torch.arange(BATCHES * size).view(BATCHES, size)
    return model, list(zip(ids, xs, ys, strict=True))


def opened(
    variant: str, seed: int, records: bool, store: Any, steps: int, stack: contextlib.ExitStack
) -> Iterator[float]:
    """One own loop, attached; every `next` does one step and yields its CPU seconds."""
    import torch

    import reinvest as ri

    model, batches = make(variant)
    # Steps that leave the weights as they are: rows stay as sure as they were, and every step does the same work.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    loader = Epoch(batches, steps)
    methods = ri.Methods()
    stack.enter_context(store.record("bench", task="bench", seed=seed, records=records, facts={}))
    stack.enter_context(methods.attach(model, optimizer, duration="1ep", data=loader, seed=0))

    def run() -> Iterator[float]:
        model.train()
        source = iter(methods.batches(loader))
        while True:
            begin = time.process_time()
            try:
                x, y = next(source)
            except StopIteration:
                return
            methods.loss(model(x), y).backward()
            methods.step()
            yield time.process_time() - begin

    return run()


def compare(variant: str, records: bool, blocks: int, steps: int) -> tuple[list[tuple[float, float]], float]:
    """Mean CPU seconds of a step (without, with) for each block, and the CPU seconds of ending both runs."""
    import reinvest as ri

    total = steps * (blocks + 1)
    with tempfile.TemporaryDirectory() as folder, ri.Store(folder) as store:
        with contextlib.ExitStack() as stack:
            # The context variable that a chain finds its recorder in is read once, in attach.
            loops = [opened(variant, k, on, store, total, stack) for k, on in enumerate((False, records))]
            rows = []
            for _ in range(blocks + 1):
                spent = [0.0, 0.0]
                for step in range(steps):
                    for which in (0, 1) if step % 2 == 0 else (1, 0):
                        spent[which] += next(loops[which])
                rows.append((spent[0] / steps, spent[1] / steps))
            for loop in loops:
                next(loop, None)
            begin = time.process_time()
        return rows[1:], time.process_time() - begin


def measure(variant: str, blocks: int, steps: int) -> dict[str, Any]:
    """One line: the ratio, its quartiles, the same with recording on neither side."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows, finish = compare(variant, True, blocks, steps)
    floor, bare = compare(variant, False, blocks, steps)
    ratios = [on / off for off, on in rows]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "benchmark": "recording",
        "variant": variant,
        "ratio": round(statistics.median(ratios), 4),
        "quartiles": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "goal": VARIANTS[variant],
        "floor": round(statistics.median(on / off for off, on in floor), 4),
        "without_ms": round(1e3 * statistics.median(off for off, _ in rows), 3),
        "with_ms": round(1e3 * statistics.median(on for _, on in rows), 3),
        "finish_ms": round(1e3 * (finish - bare), 1),
        "blocks": blocks,
        "steps_a_block": steps,
        "clock": "process CPU time, 1 thread",
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure every variant, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--steps", type=int, default=52)
    parser.add_argument("--variant", choices=sorted(VARIANTS))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    lines = []
    for variant in [chosen.variant] if chosen.variant else VARIANTS:
        lines.append(json.dumps(measure(variant, chosen.blocks, chosen.steps)))
        print(lines[-1], flush=True)
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
