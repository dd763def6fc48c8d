"""The contract's rows of the methods in `gradients`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

import torch

from contract_case import Case
from reinvest import functional as ops
from reinvest.testing import HandLoop


class ClipByHand(HandLoop):
    def gradients(self, again):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)


class SamByHand(HandLoop):
    def gradients(self, again):
        if self.step % 2:
            return
        held = list(self.model.parameters())
        kept = [p.detach().clone() for p in held]
        assert ops.climb(held, [p.grad for p in held], 0.5)
        again()
        for p, value in zip(held, kept, strict=True):
            p.data.copy_(value)


class SparseByHand(HandLoop):
    """One of two inputs; dense for a fifth of the run, hard from seven tenths on."""

    def start(self):
        self.weight = self.model.body[4].weight
        self.dense = self.weight.detach().clone()

    def gradients(self, again):
        self.weight.data.copy_(self.dense)

    def weights(self):
        self.dense = self.weight.detach().clone()
        stage = ops.nm_stage(self.progress, 1, 2, dense=0.2, until=0.7)
        if stage.phase != "dense":
            mask = ops.nm_mask(self.dense, stage.n, stage.m)
            self.weight.data.copy_(torch.where(mask, self.dense, self.dense * stage.factor))


class PruneByHand(HandLoop):
    """Pruned when 1, 3, 5, 7 and 8 of 9 steps are done."""

    def start(self):
        self.held = [self.model.body[0].weight, self.model.body[4].weight, self.model.head.weight]
        self.pruned = [torch.zeros_like(w, dtype=torch.bool) for w in self.held]

    def gradients(self, again):
        for weight, pruned in zip(self.held, self.pruned, strict=True):
            weight.grad[pruned] = 0.0

    def weights(self):
        if self.step in (1, 3, 5, 7, 8):
            count = round(ops.cubic_sparsity((self.step - 1) / 7, 0.7) * sum(w.numel() for w in self.held))
            self.pruned = ops.prune_smallest(self.held, count, self.pruned)
        for weight, pruned in zip(self.held, self.pruned, strict=True):
            weight.data[pruned] = 0.0


class DecayByHand(HandLoop):
    def gradients(self, again):
        ops.decay_weights([p for p in self.model.parameters() if p.ndim > 1], 0.1, 0.5)


CASES = {
    "GradientClipping": Case(
        ClipByHand,
        (
            {"norm": 0},
            {"norm": -1},
            {"value": 0.0},
            {"norm": 1.0, "value": 0.5},
            {"adaptive": 0},
            {"adaptive": 0.01, "norm": 1.0},
            {"adaptive": 0.01, "eps": -1},
            {"eps": 0.01},
            {"head": True},
        ),
    ),
    "SAM": Case(SamByHand, ({"rho": -0.1}, {"rho": math.inf}, {"interval": 0}, {"interval": 1.5})),
    "NMSparsity": Case(
        SparseByHand,
        (
            {"n": 0},
            {"n": 5},
            {"m": 0},
            {"m": 2.5},
            {"layers": []},
            {"layers": "fc1"},
            {"layers": [1]},
            {"decay": "cubic"},
            {"n": 3, "m": 8, "decay": "structure"},
            {"dense": -0.1},
            {"dense": 1.0},
            {"until": 1.1},
            {"dense": 0.6, "until": 0.5},
            {"gradient": "sr-ste"},
            {"gradient": "none"},
            {"strength": 0.1},
            {"strength": -1, "gradient": "sr-ste", "decay": "none"},
            {"refresh_every": 0},
        ),
    ),
    "MagnitudePruning": Case(
        PruneByHand,
        (
            {"sparsity": -0.1},
            {"sparsity": 1.0},
            {"start": -1},
            {"end": 1.5},
            {"start": 0.9, "end": 0.5},
            {"every": "0st"},
            {"every": "10min"},
            {"scope": "model"},
            {"layers": []},
            {"layers": "head"},
        ),
    ),
    "DecoupledWeightDecay": Case(DecayByHand, ({"decay": -0.1}, {"decay": math.inf}, {"matrices_only": 1})),
}
