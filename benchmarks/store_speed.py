"""What the store costs: `reinvest runs` on ten thousand runs, and finishing a run against the bare write of the same bytes.

    python benchmarks/store_speed.py [--runs 10000] [--repeats 9]

Prints one JSON line a figure. Limits: the list in 1.0 s in all (a new process, import included, without torch);
finishing a run at most twice the bare safetensors write. "bare" leaves the bytes in the system's cache; "durable"
waits until they are on the disk (save_file, then fsync), as finishing a run does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FACTS = {"hardware": {"device": "none"}, "software": {}}
LISTING = """
import sys
from reinvest.cli.main import main
code = main(["runs", "--json", "--store", sys.argv[1]])
assert "torch" not in sys.modules
sys.exit(code)
"""


def build(root: Path, count: int) -> None:
    """A store of `count` finished runs, written as folders and indexed by a rebuild."""
    from reinvest.store import Store

    (root / "runs").mkdir(parents=True)
    for k in range(count):
        name = f"{k:016x}"
        folder = root / "runs" / name
        folder.mkdir()
        (folder / "curve.jsonl").touch()
        truth = {
            "schema": 1, "id": name, "identity": name * 4, "name": f"run {k % 20}", "task": "digits", "seed": k,
            "config": {"lr": 0.1}, "parents": [], "created": f"2026-01-01T00:00:00.{k:06d}+00:00", "ended": None,
            "steps": 1000, "training": {}, "facts": FACTS, "cost": {"seconds": 1.5}, "status": "finished",
            "last": {"validation": {"accuracy": k / count}, "test": {"accuracy": k / count}}, "files": {},
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(truth))
    with Store(root) as store:
        begun = time.perf_counter()
        assert store.rebuild() == count
        say("rebuild", runs=count, seconds=round(time.perf_counter() - begun, 3))


def say(figure: str, **values: object) -> None:
    print(json.dumps({"benchmark": "store_speed", "figure": figure, **values}), flush=True)


def listing(root: Path, count: int, repeats: int) -> None:
    seconds, processor = [], []
    for _ in range(repeats):
        begun, before = time.perf_counter(), os.times()
        done = subprocess.run([sys.executable, "-c", LISTING, str(root)], capture_output=True, check=True)
        seconds.append(time.perf_counter() - begun)
        after = os.times()
        used = after.children_user - before.children_user + after.children_system - before.children_system
        processor.append(used)
    assert json.loads(done.stdout)["total"] == count
    low, middle = round(min(seconds), 3), round(statistics.median(seconds), 3)
    cpu = round(statistics.median(processor), 3)
    say("list", runs=count, seconds=middle, best=low, cpu_seconds=cpu, limit=1.0, passed=middle <= 1.0)


def finishing(root: Path, megabytes: int, repeats: int) -> None:
    """Interleaved, each on a new file: bare write, durable write, and `save_weights` plus the end of the block."""
    import torch
    from safetensors.torch import save_file

    from reinvest.store import Store

    torch.set_num_threads(1)
    tensors = {f"layer{k}": torch.randn(megabytes * 2**20 // 32) for k in range(8)}
    target = root / "bare.safetensors"
    store = Store(root / "store")
    with store.record("warm", task="digits", facts=FACTS) as writer:
        writer.save_weights(tensors)

    def bare() -> float:
        begun = time.perf_counter()
        save_file(tensors, target)
        return time.perf_counter() - begun

    def durable() -> float:
        begun = time.perf_counter()
        save_file(tensors, target)
        handle = os.open(target, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        return time.perf_counter() - begun

    def finish() -> float:
        with store.record("mine", task="digits", facts=FACTS) as writer:
            writer.log(split="test", accuracy=0.5)
            begun = time.perf_counter()
            writer.save_weights(tensors)
            writer.finish()
            taken = time.perf_counter() - begun
        (writer.path / "weights.safetensors").unlink()
        return taken

    kinds: dict[str, Callable[[], float]] = {"bare": bare, "durable": durable, "finish": finish}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, act in kinds.items():
            target.unlink(missing_ok=True)
            os.sync()  # what the one before left to be written must not be charged to the next
            times[name].append(act())
    middle = {name: statistics.median(values) for name, values in times.items()}
    best = {name: min(values) for name, values in times.items()}
    ratios = {
        f"{kind}_ratio_to_{name}": round(found["finish"] / found[name], 2)
        for kind, found in (("median", middle), ("best", best))
        for name in ("bare", "durable")
    }
    seconds = {name: round(value, 5) for name, value in middle.items()}
    passed = ratios["median_ratio_to_durable"] <= 2.0
    say("finish", megabytes=megabytes, seconds=seconds, **ratios, limit=2.0, passed=passed)
    store.close()


def observing(repeats: int) -> None:
    """Seconds of the recorder per batch of 64 x 10 on one CPU thread, moving into the tables included."""
    import torch

    from reinvest.store.accumulate import Accumulator

    torch.set_num_threads(1)
    examples, epochs = 50_000, 6
    output, losses, targets = torch.randn(64, 10), torch.rand(64), torch.randint(0, 10, (64,))
    batches = torch.randperm(examples).split(64)[:-1]
    found: dict[str, list[float]] = {"early": [], "last three epochs": []}
    with torch.no_grad():
        for _ in range(repeats):
            accumulator = Accumulator(Path(tempfile.gettempdir()))
            accumulator.begin(examples, epochs)
            for epoch in range(epochs):
                begun = time.process_time()
                for ids in batches:
                    accumulator.observe(epoch, ids, losses, output, targets, None)
                accumulator.flush()
                taken = (time.process_time() - begun) / len(batches)
                if epoch > 0:
                    found["early" if epoch < epochs - 3 else "last three epochs"].append(taken * 1e6)
    middle = {name: round(statistics.median(values), 2) for name, values in found.items()}
    best = {name: round(min(values), 2) for name, values in found.items()}
    say("observe", microseconds=middle, best=best, limit=10, passed=max(middle.values()) <= 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build(root / "many", arguments.runs)
        listing(root / "many", arguments.runs, arguments.repeats)
        observing(max(1, arguments.repeats // 3))
        for megabytes in (1, 25, 100):
            finishing(root, megabytes, arguments.repeats)


if __name__ == "__main__":
    main()
