"""One epoch of CIFAR-10-shaped data with crop (pad 4), flip and normalisation: a task's loader against a DataLoader.

The rival reads one example at a time with tensor operations in a torch DataLoader with 2 worker processes; its epoch
includes starting the workers, as each epoch of such a loader does. Both ways run in turn in one process, one thread
each, on wall-clock time (the workers' CPU time is not this process's). Prints one JSON line a round and a summary line.

    python benchmarks/data_path.py [--rounds 5] [--examples 50000] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from reinvest.core.hardware import facts
from reinvest.testbed.tasks.task import Task

BATCH, PAD, GOAL = 128, 4, 8.0
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


class PerSample(Dataset[tuple[Tensor, Tensor]]):
    """The usual pipeline: each example is padded, cropped, perhaps mirrored and normalised by itself."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        down, right, flip = (int(torch.randint(high, ())) for high in (2 * PAD + 1, 2 * PAD + 1, 2))
        x = F.pad(self.x[index], (PAD,) * 4)[:, down : down + 32, right : right + 32]
        if flip:
            x = x.flip(-1)
        return (x.to(torch.float32) / 255 - self.mean) / self.std, self.y[index]


def seconds(epoch: Callable[[], int], examples: int) -> float:
    """Wall-clock seconds of one epoch, which must have yielded so many examples."""
    begin = time.perf_counter()
    seen = epoch()
    took = time.perf_counter() - begin
    assert seen == examples, f"an epoch yields {examples} examples, got {seen}"
    return took


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    n = options.examples
    x = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    y = torch.randint(10, (n,), generator=generator)
    # Two rows more, so that all the others are training rows.
    task = Task.from_tensors(
        "data-path",
        torch.cat([x, x[:2]]),
        torch.cat([y, y[:2]]),
        splits={"train": range(n), "validation": [n], "test": [n + 1]},
        augment="crop-flip",
        pad=PAD,
        mean=MEAN,
        std=STD,
        fingerprint="made up",
    )
    rival = DataLoader(PerSample(x, y), batch_size=BATCH, shuffle=True, num_workers=options.workers, drop_last=True)
    epochs = {
        "task": lambda: sum(len(ids) for ids, _, _ in task.loader("train", BATCH)),
        "dataloader": lambda: sum(len(labels) for _, labels in rival),
    }
    epochs["task"]()
    rounds = []
    for number in range(options.rounds):
        # Every other round in the opposite order, so that a drift of the machine favours neither.
        order = list(epochs) if number % 2 == 0 else list(epochs)[::-1]
        took = {name: seconds(epochs[name], n // BATCH * BATCH) for name in order}
        rounds.append({**took, "ratio": took["dataloader"] / took["task"]})
        print(
            json.dumps({"benchmark": "data_path", "round": number, **{k: round(v, 4) for k, v in rounds[-1].items()}})
        )
    ratio = statistics.median(r["ratio"] for r in rounds)
    summary = {
        "benchmark": "data_path",
        "what": f"epoch of {n} x 3x32x32 uint8, crop {PAD} + flip + normalise, batch {BATCH}",
        "task_seconds": round(statistics.median(r["task"] for r in rounds), 4),
        "dataloader_seconds": round(statistics.median(r["dataloader"] for r in rounds), 4),
        "workers": options.workers,
        "rounds": options.rounds,
        "ratio": round(ratio, 2),
        "ratio_min": round(min(r["ratio"] for r in rounds), 2),
        "ratio_max": round(max(r["ratio"] for r in rounds), 2),
        "goal": GOAL,
        "met": ratio >= GOAL,
        "load": round(os.getloadavg()[0], 2),
        "facts": facts(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
