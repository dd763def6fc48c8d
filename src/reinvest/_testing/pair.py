"""Two processes that train together, for the clause that says two processes equal one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from ..core.method import Method
from .loops import ChainLoop, Setup

Case = tuple[type[Method], dict[str, Any]]
RANKS = 2


def _average(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= RANKS


def _rank(rank: int, cases: Sequence[Case], setups: Sequence[Setup], folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    try:
        for k, ((method, arguments), setup) in enumerate(zip(cases, setups, strict=True)):
            loop = ChainLoop(setup, [method(**arguments)], ranks=(rank, RANKS), average=_average).run()
            torch.save(loop.result(), Path(folder, f"{k}-{rank}.pt"))
        torch.distributed.barrier()  # nobody leaves while the other still trains
    finally:
        torch.distributed.destroy_process_group()


def run_pair(cases: Sequence[Case], setup: Setup | Sequence[Setup]) -> list[list[dict[str, Any]]]:
    """Train every case on two processes, each with its half of every batch; results [case][rank].

    One pair of processes runs all cases one after the other, on one setup or each on its own. Classes of methods and
    setups must be importable by name.
    """
    setups = [setup] * len(cases) if isinstance(setup, Setup) else list(setup)
    with tempfile.TemporaryDirectory() as folder:
        places = [[Path(folder, f"{k}-{rank}.pt") for rank in range(RANKS)] for k in range(len(cases))]
        try:
            spawn(_rank, (list(cases), setups, folder), nprocs=RANKS)  # type: ignore[no-untyped-call]
        except ProcessExitedException:
            # Now and then gloo's threads abort a process that is done and about to end; its results are there then.
            if not all(place.exists() for pair in places for place in pair):
                raise
        return [[torch.load(place, weights_only=True) for place in pair] for pair in places]
