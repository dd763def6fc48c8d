"""An own training loop with the three calls, recorded: python examples/own_loop.py --duration 6ep --seed 0 --smooth 0.1

As an arm of a study (examples/own_loop_study.yaml) it is called with each duration and seed, and finds the study's
store in the environment.
"""

from __future__ import annotations

import argparse
import os

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import reinvest as ri


def data() -> dict[str, TensorDataset]:
    """Digits in three parts that no seed changes."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    parts = {"train": order[:300], "validation": order[1078:1438], "test": order[1438:]}
    return {name: TensorDataset(x[rows], y[rows]) for name, rows in parts.items()}


@torch.no_grad()
def accuracy(model: nn.Module, part: TensorDataset) -> float:
    x, y = part.tensors
    model.eval()
    share = (model(x).argmax(1) == y).float().mean().item()
    model.train()
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", default="6ep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smooth", type=float, default=0.0)
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    parts = data()
    loader = DataLoader(ri.Indexed(parts["train"]), batch_size=50, shuffle=True)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    methods = ri.Methods(ri.LabelSmoothing(options.smooth)) if options.smooth else ri.Methods()
    epochs = int(options.duration.removesuffix("ep"))

    store = ri.Store(os.environ.get("REINVEST_STORE", "runs"))
    config = {"smooth": options.smooth, "duration": options.duration}
    with (
        store.record("own loop", task="my-digits", config=config, seed=options.seed) as run,
        methods.attach(model, optimizer, duration=options.duration, data=loader, seed=options.seed),
    ):
        for _ in range(epochs):
            for x, y in methods.batches(loader):
                methods.loss(model(x), y).backward()
                methods.step()
            run.log(split="validation", accuracy=accuracy(model, parts["validation"]))
        run.log(split="test", accuracy=accuracy(model, parts["test"]))
        run.save_weights(model.state_dict())
    print(f"run {run.id}: accuracy on test {run.run.quality('accuracy'):.4f}")


if __name__ == "__main__":
    main()
