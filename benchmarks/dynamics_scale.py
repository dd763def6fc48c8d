"""Training dynamics at the size of ImageNet: scores, nearest probes, warping, classes, groups and words of trajectories.

    python -m benchmarks.dynamics_scale [--examples 1281167] [--epochs 90] [--probes 1000,5000] [--threads 1,2]

Trajectories are made up, with a seed: losses fall early, late or hardly, and scatter as those of runs on CIFAR-10 did
(about 0.3 of a loss of 4, 0.4 of 1, 1.5 of 0.1). They lie in a file that is mapped, as a run's records do. Prints one
JSON line a figure:

scan      all scores of all examples against a plain sum of the same mapped bytes; `disk`: after the file left the
          system's cache, `memory`: from it. Wall time of a new mapping. Goal: half of what reading alone does.
nearest   20 nearest probes, against scikit-learn's brute force on the same part of the examples, taking turns; then all
          examples, with the peak of memory beyond what was there before. CPU time for one thread, else wall time. Goals:
          a fifth of the time, 2 GB.
warping   20 nearest by warping within 5 % of the epochs: exact, and among the nearest by Euclidean distance, with the
          share of neighbours found.
classes   the linear classifier, learned from the probes, on all examples.
groups    k-means of a sample, then all examples to their centre; `words` writes all of them as words.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

KINDS = ("easy", "late", "wrong label", "noisy")
SHARES = (0.7, 0.15, 0.1, 0.05)
NEIGHBOURS = 20
BLOCK = 1 << 16


def say(figure: str, **values: object) -> None:
    print(json.dumps({"benchmark": "dynamics_scale", "figure": figure, **values}), flush=True)


def made(count: int, epochs: int, seed: int, *, equal: bool = False) -> tuple[Any, Any]:
    """(losses float16 [count, epochs], kinds int64 [count]); equal: as many of each kind, as probes are."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    kinds = torch.multinomial(torch.tensor([1.0] * 4 if equal else SHARES), count, True, generator=draw)

    def between(low: list[float], high: list[float]) -> Any:
        a, b = torch.tensor(low)[kinds], torch.tensor(high)[kinds]
        return (a + (b - a) * torch.rand(count, generator=draw)).unsqueeze(1)

    falls = between([0.03, 0.2, 0.6, 0.3], [0.3, 0.7, 1.1, 0.9])
    width = between([0.03, 0.05, 0.05, 0.05], [0.1, 0.2, 0.2, 0.2])
    low = between([0.01, 0.1, 0.2, 0.3], [0.3, 1.0, 1.5, 2.0])
    high = between([6.0, 6.5, 7.0, 6.5], [7.0, 7.5, 9.0, 8.0])
    level = low + (high - low) * torch.sigmoid((falls - torch.arange(epochs) / epochs) / width)
    scatter = torch.log1p((0.42 * level**-0.45).clamp(0.3, 2.0).square()).sqrt()
    noise = torch.randn(count, epochs, generator=draw)
    return (level * (scatter * noise - scatter.square() / 2).exp()).half(), kinds


def write(path: Path, examples: int, epochs: int) -> Any:
    """The tables of a run on 1,000 classes in a file; what is returned are the kinds."""
    import torch
    from safetensors.torch import save_file

    loss, margin = (torch.empty(examples, epochs, dtype=torch.float16) for _ in range(2))
    correct, kinds = torch.empty(examples, epochs, dtype=torch.int8), torch.empty(examples, dtype=torch.int64)
    for start in range(0, examples, BLOCK):
        part = slice(start, min(start + BLOCK, examples))
        loss[part], kinds[part] = made(part.stop - start, epochs, start)
        correct[part] = loss[part] < 0.7
        margin[part] = 1.0 - loss[part]
    save_file({"loss": loss, "correct": correct, "margin": margin}, path)
    return kinds


def opened(path: Path, *names: str) -> list[Any]:
    """Tables of the file, newly mapped."""
    from safetensors import safe_open

    file = safe_open(path, framework="pt")  # type: ignore[no-untyped-call]
    return [file.get_tensor(name) for name in names]


def wall(act: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def forget(path: Path) -> None:
    """The file leaves the system's cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def memory() -> dict[str, int]:
    """Bytes of this process, now and at most (VmRSS, VmHWM); empty where the system does not say."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="utf8").splitlines()
        return {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))
        }
    return {}


def peak(act: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """(answer, CPU seconds, GB that the process grew by at most meanwhile, mapped pages of the file included)."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf8")  # the peak is from here on
    before, begun = memory(), time.process_time()
    found = act()
    seconds, after = time.process_time() - begun, memory()
    grown = (after["VmHWM"] - before["VmRSS"]) / 1e9 if before and after else None
    return found, round(seconds, 4), None if grown is None else round(grown, 3)


# ---- figures -----------------------------------------------------------------------------------------------------------


def scanning(path: Path, repeats: int) -> None:
    import torch

    from reinvest.dynamics.scan import scan
    from reinvest.dynamics.trajectories import Trajectories

    for names in (("loss",), ("loss", "correct"), ("loss", "correct", "margin")):
        size = sum(table.nbytes for table in opened(path, *names))

        def plain(names: tuple[str, ...] = names) -> None:
            for table in opened(path, *names):
                flat = table.view(torch.uint8).view(-1)
                flat[: len(flat) // 8 * 8].view(torch.int64).sum()

        def ours(names: tuple[str, ...] = names) -> None:
            tables: dict[str, Any] = dict(zip(names, opened(path, *names), strict=True))
            scan(Trajectories(**tables))

        found: dict[str, dict[str, list[float]]] = {}
        for place in ("disk", "memory"):
            times = found[place] = {"plain": [], "scan": []}
            for _ in range(repeats):
                for name, act in (("plain", plain), ("scan", ours)):
                    if place == "disk":
                        forget(path)
                    times[name].append(wall(act))
        for place, times in found.items():
            middle = {name: statistics.median(values) for name, values in times.items()}
            share = middle["plain"] / middle["scan"]
            rate = {name: round(size / seconds / 1e9, 2) for name, seconds in middle.items()}
            seconds = {name: round(value, 3) for name, value in middle.items()}
            say("scan", tables=names, place=place, megabytes=size // 10**6, seconds=seconds, gb_per_second=rate,
                share=round(share, 2), goal=0.5, passed=share >= 0.5)  # fmt: skip


def neighbours(path: Path, probes: int, threads: int, subset: int, repeats: int) -> None:
    import torch
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    from reinvest.dynamics.neighbours import nearest

    (loss,) = opened(path, "loss")
    references = made(probes, loss.shape[1], -1, equal=True)[0].float()
    part, before = loss[:subset], torch.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {"ours": [], "scikit-learn": []}
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            model = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(references.numpy())
            single = part.float().numpy()
            for _ in range(repeats + 1):
                begun = clock()
                ours = nearest(part, references, NEIGHBOURS)
                middle = clock()
                distance, index = model.kneighbors(single)
                times["scikit-learn"].append(clock() - middle)
                times["ours"].append(middle - begun)
            _, seconds, grown = peak(lambda: nearest(loss, references, NEIGHBOURS))
    finally:
        torch.set_num_threads(before)
    ratios = [a / b for a, b in zip(times["ours"][1:], times["scikit-learn"][1:], strict=True)]
    each = {name: round(statistics.median(values[1:]) / len(part) * 1e6, 2) for name, values in times.items()}
    ratio = statistics.median(ratios)
    found = torch.from_numpy(index)
    say("nearest", examples=len(part), probes=probes, threads=threads, microseconds=each, ratio=round(ratio, 3),
        goal=0.2, passed=ratio <= 0.2, same_neighbours=round(float((found == ours.index).float().mean()), 6),
        distances_off=float(f"{float((torch.from_numpy(distance) / ours.distance - 1).abs().max()):.1e}"),
        all_examples=len(loss), all_cpu_seconds=seconds, all_gb=grown, gb_goal=2.0,
        gb_passed=None if grown is None else grown <= 2.0)  # fmt: skip


def warping(path: Path, probes: int, series: int) -> None:
    import torch

    from reinvest.dynamics.neighbours import dtw, nearest

    (loss,) = opened(path, "loss")
    epochs = loss.shape[1]
    band = max(1, round(0.05 * epochs))
    references, part = made(probes, epochs, -1, equal=True)[0].float(), loss[:series].float()
    exact, seconds, _ = peak(lambda: nearest(part, references, NEIGHBOURS, "dtw", band=band))
    say("warping", series=series, probes=probes, band=band, among="exact", milliseconds_a_series=_each(seconds, series))
    for among in (NEIGHBOURS, 2 * NEIGHBOURS, 5 * NEIGHBOURS, 10 * NEIGHBOURS):
        if among > probes:
            continue
        few, seconds, _ = peak(
            lambda among=among: nearest(part, references, NEIGHBOURS, "dtw", band=band, among=among)  # type: ignore[misc]
        )
        matches = [torch.isin(a, b).float().mean() for a, b in zip(exact.index, few.index, strict=True)]
        say("warping", series=series, probes=probes, band=band, among=among, milliseconds_a_series=_each(seconds, series),
            recall=round(float(torch.stack(matches).mean()), 4))  # fmt: skip
    some = part[: max(1, min(series, 50_000 // probes))]
    _, seconds, _ = peak(lambda: dtw(some, references, band))
    pairs = {"ours": round(len(some) * probes / max(seconds, 1e-9))}
    with suppress(ImportError):
        from dtaidistance import dtw as other  # type: ignore[import-not-found]

        both = torch.cat([some, references]).double().numpy()
        block = ((0, len(some)), (len(some), len(both)))
        _, seconds, _ = peak(
            lambda: other.distance_matrix_fast(both, block=block, compact=True, parallel=False, window=band + 1)
        )
        pairs["dtaidistance"] = round(len(some) * probes / max(seconds, 1e-9))
    say("pairs", epochs=epochs, band=band, pairs_a_second=pairs)


def _each(seconds: float, count: int) -> float:
    return round(1e3 * seconds / count, 3)


def classes(path: Path, kinds: Any, probes: int) -> None:
    import torch

    from reinvest.dynamics.classify import assess, fit

    (loss,) = opened(path, "loss")
    table, truth = made(probes, loss.shape[1], -1, equal=True)
    half = torch.arange(probes) % 2 == 0
    model = fit(table[half].float(), truth[half], KINDS)
    assessed = assess(model, table[~half].float(), truth[~half]).assessment
    assert assessed is not None
    answers, seconds, grown = peak(lambda: model.predict(loss))
    right = [float((answers[kinds == k] == k).float().mean()) for k in range(len(KINDS))]
    say("classes", examples=len(loss), probes=probes, cpu_seconds=seconds, gb=grown,
        balanced_accuracy=round(statistics.mean(right), 3), on_probes=round(assessed.balanced, 3))  # fmt: skip


def groups(path: Path) -> None:
    from reinvest.dynamics.series import clusters, words

    (loss,) = opened(path, "loss")
    count = min(8, len(loss))
    (group, _), seconds, grown = peak(lambda: clusters(loss, count))
    say("groups", examples=len(loss), groups=count, smallest=int(group.bincount(minlength=count).min()),
        cpu_seconds=seconds, gb=grown)  # fmt: skip
    found, seconds, grown = peak(lambda: words(loss, min(8, loss.shape[1])))
    say("words", examples=len(loss), different=len(set(found)), cpu_seconds=seconds, gb=grown)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_281_167)
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--probes", default="1000,5000", help="numbers of probes, with commas")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas")
    parser.add_argument("--subset", type=int, default=1 << 16, help="examples that scikit-learn searches too")
    parser.add_argument("--series", type=int, default=500, help="examples that are warped exactly")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    probes, threads = ([int(value) for value in text.split(",")] for text in (chosen.probes, chosen.threads))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.safetensors"
        kinds = write(path, chosen.examples, chosen.epochs)
        scanning(path, chosen.repeats)
        for count in threads:
            for number in probes:
                neighbours(path, number, count, chosen.subset, chosen.repeats)
        warping(path, min(probes), min(chosen.series, chosen.examples))
        classes(path, kinds, min(probes))
        groups(path)


if __name__ == "__main__":
    main()
