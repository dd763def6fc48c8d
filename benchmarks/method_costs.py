"""Seconds per step with each method of the catalogue, relative to the plain step, all arms interleaved in one process.

Vision methods on a ResNet-8 (random pictures 16x16, batch 128), methods of text models on a small GPT or BERT (books by
bytes, length 64, batch 32; left out where the books are not in REINVEST_DATA). Each has the arguments printed with it: a usual setting, not the mildest. CPU time on a CPU
(one thread), device time on a GPU. Prints one JSON line a method; "plain again" is the plain recipe once more.

    python -m benchmarks.method_costs [--device cpu] [--rounds 10] [--only NAME,NAME] [--precision fp32]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from typing import Any

import torch

import reinvest as ri
from reinvest.core.errors import DataError
from reinvest.core.names import catalogue
from reinvest.evaluation.timing import timing_block

LENGTH = 64
EXAMPLES = 1280
USUAL: dict[str, dict[str, Any]] = {
    "Curriculum": {"scores": [i / EXAMPLES for i in range(EXAMPLES)]},
    "Subset": {"scores": [i / EXAMPLES for i in range(EXAMPLES)]},
    "Weighting": {"scores": [i / EXAMPLES for i in range(EXAMPLES)]},
    "SelectiveBackprop": {"start": 0.0, "end": 1.0},
    "GradientClipping": {"norm": 1.0},
    "LabelCorrection": {"p_clean": [i / EXAMPLES for i in range(EXAMPLES)], "start": 0.0},
    "PrioritizedTraining": {"p_clean": [i / EXAMPLES for i in range(EXAMPLES)]},
    "ReducibleLossSelection": {"scores": [i / EXAMPLES for i in range(EXAMPLES)]},
    "SqueezeExcite": {"min_channels": 16},
}
"""Arguments where a method has no usual default."""
TEXT = {
    "ALiBi": "gpt",
    "GatedLinearUnits": "gpt",
    "GyroDropout": "gpt",
    "LowPrecisionNorm": "gpt",
    "MaskingRate": "bert",
    "MemorySavingActivations": "gpt",
    "SequenceLengthWarmup": "gpt",
}
"""Methods of text models, and the model on which they are timed."""


def plain_recipes() -> dict[str, ri.Recipe]:
    """The step that each kind of method is measured against."""
    picture = {"name": "benchmarks.reuse_step:pictures", "size": 16}
    sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}
    adam = {"name": "adamw", "lr": 0.002}

    def text(model: str, objective: str) -> ri.Recipe:
        task = {"name": "books", "length": LENGTH, "objective": objective}
        size = {"width": 64, "layers": 2, "heads": 4, "dropout": 0.1}
        return ri.Recipe(task=task, model={"name": model, **size}, batch_size=32, duration="200st", optimizer=adam)

    return {
        "resnet8": ri.Recipe(task=picture, model="resnet8", duration="10ep", batch_size=128, optimizer=sgd),
        "gpt": text("gpt", "causal"),
        "bert": text("bert", "masked"),
    }


def arguments_of(name: str, method: Any, teacher: str) -> dict[str, Any]:
    """A usual setting: what is said above, else the defaults, else the example."""
    if name == "Distill":
        return {"teacher": teacher}
    if name == "WarmStart":
        return {"run": teacher}
    if name in USUAL:
        return USUAL[name]
    try:
        made = method()
    except ri.ReinvestError:
        return dict(method.example)
    return {} if made.arguments == {} else dict(method.example)


def time_group(plain: ri.Recipe, names: list[str], store: ri.Store, device: str, rounds: int) -> list[dict[str, Any]]:
    """One timing block of the plain recipe and each of these methods; methods that do not fit the model say so."""
    teacher = ri.train(plain.with_(duration="10st"), 0, store, device=device, progress=False).id
    known = catalogue("method")
    chosen = {n: arguments_of(n, known[n], teacher) for n in names}
    recipes = {"plain": plain, "plain again": plain.with_()}
    recipes |= {n: plain.with_({"name": n, **a}) for n, a in chosen.items()}
    with store.lending():
        block = timing_block(recipes, "plain", rounds=rounds, device=device)
    base = block.arms["plain"].seconds_per_step
    rows = []
    for name, arm in block.arms.items():
        low, high = arm.interval()
        listed = {"scores": "a score per example", "p_clean": "a probability per example"}
        shown = {k: listed.get(k, v) for k, v in chosen.get(name, {}).items()}
        shown = {k: "a run" if v == teacher else v for k, v in shown.items()}
        ratio = arm.seconds_per_step / base
        rows.append({"method": name, "arguments": shown, "ratio": ratio, "interval": [low, high], "clock": block.clock})
    return rows


def main() -> None:
    """Time all methods and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="names of methods, with commas")
    parser.add_argument("--precision", default="fp32")
    chosen = parser.parse_args()
    # A method that finds nothing to act on would be timed as if it cost nothing.
    warnings.simplefilter("error", ri.NoEffectWarning)
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    wanted = [n for n in catalogue("method") if not chosen.only or n in chosen.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        store = ri.Store(folder)
        for model, plain in plain_recipes().items():
            names = [n for n in wanted if TEXT.get(n, "resnet8") == model]
            if not names:
                continue
            about = {"benchmark": "method_costs", "model": model, "device": chosen.device}
            ready = plain.with_(precision=chosen.precision)
            try:
                rows = time_group(ready, names, store, chosen.device, chosen.rounds)
            except DataError as error:
                print(json.dumps(about | {"left_out": names, "why": str(error)}), flush=True)
                continue
            for row in rows:
                print(json.dumps(about | {"precision": chosen.precision} | row), flush=True)


if __name__ == "__main__":
    main()
