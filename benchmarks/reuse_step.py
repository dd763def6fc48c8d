"""Seconds per step of a ResNet-8 that learns from an earlier run, relative to the same step without a teacher.

Every way of asking the teacher is one arm of the library's own paired timing block: all arms take turns in one process,
CPU time on a CPU, device time on a GPU. The pictures are random; the teacher is a run of one epoch on them, recorded
in a temporary store. Prints one JSON line an arm, with the interval of the ratio; the goal for records is 1.01, the
limit 1.03.

    python -m benchmarks.reuse_step [--size 16] [--batch 128] [--model resnet8] [--classes 10] [--device cpu] [--rounds 12] [--all]
"""

from __future__ import annotations

import argparse
import json
import tempfile

import torch

import reinvest as ri
from reinvest.evaluation.timing import timing_block

EXAMPLES = 1280
GOAL, LIMIT = 1.01, 1.03


def pictures(size: int = 32, classes: int = 10) -> ri.Task:
    """Random pictures [1280 + 320, 3, size, size], shifted and mirrored while training."""
    draws = torch.Generator().manual_seed(0)
    total = EXAMPLES + EXAMPLES // 4
    x = torch.randint(256, (total, 3, size, size), generator=draws, dtype=torch.uint8)
    y = torch.randint(classes, (total,), generator=draws)
    ids = torch.arange(total)
    splits = {"train": ids[:EXAMPLES], "validation": ids[EXAMPLES : EXAMPLES + 160], "test": ids[EXAMPLES + 160 :]}
    return ri.Task.from_tensors(f"pictures-{size}-{classes}", x, y, splits=splits, classes=classes, augment="crop-flip")


def arms(plain: ri.Recipe, teacher: str, pool: list[str], *, everything: bool) -> dict[str, ri.Recipe]:
    """The recipes that are timed: those that matter most, or everything."""
    few = {
        "plain": plain,
        "plain again": plain.with_(),
        "records": plain.with_(ri.Distill(teacher, source="records")),
        "forward": plain.with_(ri.Distill(teacher, source="forward")),
    }
    if not everything:
        return few
    return few | {
        "clean pass": plain.with_(ri.Distill(teacher, source="clean pass")),
        "forward, every 10th step": plain.with_(ri.Distill(teacher, source="forward", every=10)),
        "forward, first 20 %": plain.with_(ri.Distill(teacher, source="forward", until=0.2)),
        "forward, one random of 3": plain.with_(ri.Distill(pool, source="forward")),
        "records, random of 3": plain.with_(ri.Distill(pool, source="records")),
    }


def main() -> None:
    """Time the arms and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--all", action="store_true", help="every way of asking a teacher, not only the main ones")
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    task = {"name": "benchmarks.reuse_step:pictures", "size": chosen.size, "classes": chosen.classes}
    plain = ri.Recipe(task=task, model=chosen.model, duration="10ep", batch_size=chosen.batch)
    with tempfile.TemporaryDirectory() as folder:
        store = ri.Store(folder)
        short = plain.with_(duration="1ep")
        pool = [ri.train(short, seed, store, device=chosen.device, progress=False).id for seed in range(3)]
        recipes = arms(plain, pool[0], pool, everything=chosen.all)
        with store.lending():
            block = timing_block(recipes, "plain", rounds=chosen.rounds, device=chosen.device)
    about = {k: getattr(chosen, k) for k in ("size", "batch", "model", "classes", "device", "rounds")}
    for name, timing in block.arms.items():
        low, high = timing.interval()
        ratio = timing.seconds_per_step / block.arms["plain"].seconds_per_step
        line = {"benchmark": "reuse_step", "arm": name, "ratio": ratio, "interval": [low, high], "clock": block.clock}
        line |= {"seconds_per_step": timing.seconds_per_step} | about
        if name == "records":
            line |= {"goal": GOAL, "limit": LIMIT}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
