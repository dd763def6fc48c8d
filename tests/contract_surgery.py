"""The contract's rows of the methods in `surgery`: bad arguments, and a hand-written loop with the plain functions."""

from __future__ import annotations

import math

from contract_case import Case
from reinvest import functional as ops
from reinvest.testing import HandLoop


class BlurByHand(HandLoop):
    def start(self):
        assert ops.replace_strided(self.model) == 2


class LaidOutByHand(HandLoop):
    def start(self):
        self.names = ops.lay_out_weights(self.model)

    def batch(self, ids, x, y):
        return ids, ops.lay_out_pictures(x), y

    def finish(self):
        ops.restore_layout(self.model, self.names, self.optimizer)


class GhostsByHand(HandLoop):
    def start(self):
        assert len(ops.split_batch_norms(self.model, 4)) == 1

    def finish(self):
        assert ops.join_batch_norms(self.model) == 1


class StandardizedByHand(HandLoop):
    def start(self):
        assert len(ops.standardize_convolutions(self.model, 0.1)) == 2

    def finish(self):
        assert ops.fold_standardization(self.model) == 2


class SavingByHand(HandLoop):
    def start(self):
        assert len(ops.save_less(self.model)) == 2

    def finish(self):
        assert ops.save_as_before(self.model) == 2


class ExcitedByHand(HandLoop):
    def start(self):
        draws = ops.stream(self.setup.seed, "SqueezeExcite", 0)
        assert len(ops.add_excitations(self.model, draws, min_channels=6, reduction=2)) == 2
        new = [p for n, p in self.model.named_parameters() if "excitation" in n]
        self.optimizer.param_groups[0]["params"] += new


class DroppedByHand(HandLoop):
    def start(self):
        self.drops = ops.BranchDrops(self.model, 0.5, "sample", {"torch.nn:Sequential": "4"})

    def batch(self, ids, x, y):
        self.drops.draw(ops.example_uniform(self.setup.seed, "StochasticDepth", self.epoch, ids))
        return ids, x, y

    def finish(self):
        self.drops.remove()


class WarmByHand(HandLoop):
    def start(self):
        own = self.model.state_dict()
        self.model.load_state_dict(ops.shrink_perturb(own, own, keep=0.5, noise=0.2))


class AttentiveByHand(HandLoop):
    def start(self):
        assert len(ops.replace_positions(self.model, self.optimizer)) == 3


class GatedByHand(HandLoop):
    def start(self):
        assert len(ops.gate_perceptrons(self.model, self.setup.seed, self.optimizer, multiple=1)) == 2


class LoweredByHand(HandLoop):
    def start(self):
        assert ops.lower_norms(self.model) == {"norm": "GroupNorm -> LowPrecisionGroupNorm"}


class FactorizedByHand(HandLoop):
    def start(self):
        assert len(ops.factorize_layers(self.model, self.optimizer, share=0.6, smallest=1)) == 3


class GyroByHand(HandLoop):
    def start(self):
        total = self.setup.total_steps
        self.subnetworks = ops.Subnetworks(self.model, self.setup.seed, total, subnetworks=12, together=4)

    def weights(self):
        self.subnetworks.advance(self.step)

    def finish(self):
        self.subnetworks.remove()


class RatesByHand(HandLoop):
    def start(self):
        factors = ops.layer_factors(ops.depths(self.model), 0.5)
        self.factors = {p: factors[name] for name, p in self.model.named_parameters()}

    def gradients(self, again):
        self.kept = self.optimizer.param_groups[:]
        self.optimizer.param_groups[:] = ops.split_groups(self.kept, self.factors)

    def weights(self):
        self.optimizer.param_groups[:] = self.kept


CASES = {
    "ALiBi": Case(
        AttentiveByHand,
        ({"strength": -0.1}, {"strength": math.inf}, {"strength": "steep"}, {"keep_positions": 1}),
    ),
    "BlurPool": Case(BlurByHand, ({"replace_convs": 1}, {"replace_maxpools": "yes"})),
    "ChannelsLast": Case(LaidOutByHand, ({"weights": 1}, {"inputs": "yes"})),
    "FactorizedLayers": Case(
        FactorizedByHand,
        ({"share": 0.0}, {"share": 1.1}, {"share": math.nan}, {"smallest": 0}, {"smallest": 8.0}),
    ),
    "GatedLinearUnits": Case(GatedByHand, ({"gate": "tanh"}, {"gate": 1}, {"multiple": 0}, {"multiple": 2.0})),
    "GhostBatchNorm": Case(GhostsByHand, ({"size": 0}, {"size": 8.0}, {"size": True}, {"updates": "step"})),
    "GyroDropout": Case(
        GyroByHand,
        ({"subnetworks": 0}, {"subnetworks": 100}, {"subnetworks": 16.0}, {"together": 0}, {"together": "all"}),
    ),
    "LowPrecisionNorm": Case(LoweredByHand, ({"layer": 1}, {"group": "yes"})),
    "MemorySavingActivations": Case(
        SavingByHand, ({"one_bit": 1}, {"one_bit": None}, {"derivative": "4bit"}, {"derivative": 8})
    ),
    "SqueezeExcite": Case(
        ExcitedByHand,
        ({"min_channels": 0}, {"min_channels": 1.5}, {"reduction": 0}, {"reduction": True}),
    ),
    "StochasticDepth": Case(
        DroppedByHand,
        (
            {"survival": 0.0},
            {"survival": 1.5},
            {"survival": math.nan},
            {"mode": "row"},
            {"blocks": {}},
            {"blocks": ["bn2"]},
            {"blocks": {"Block": "bn2"}},
            {"blocks": {"torch.nn:Sequential": 4}},
            {"blocks": {"torch.nn:Sequential": []}},
            {"blocks": {"torch.nn:Sequential": {"branch": "4", "rate": 0.5}}},
            {"blocks": {"torch.nn:Sequential": {"branch": "4", "activation": "gelu"}}},
            {"blocks": {"torch.nn:Sequential": {"branch": ["0", "4"], "shortcut": "identity"}}},
        ),
    ),
    "WarmStart": Case(
        WarmByHand,
        (
            {"run": 3},
            {"run": {"weight": "<Tensor>"}},
            {"run": None, "keep": -0.1},
            {"run": None, "keep": 1.1},
            {"run": None, "noise": -1},
            {"run": None, "noise": math.nan},
            {"run": None, "heads": "old"},
            {"run": None, "norms": "yes"},
        ),
    ),
    "WeightStandardization": Case(
        StandardizedByHand,
        ({"eps": 0.0}, {"eps": math.nan}, {"eps": "small"}, {"min_weights": 1}, {"min_weights": 2.5}),
    ),
    "LayerwiseRates": Case(
        RatesByHand,
        ({"decay": 0.0}, {"decay": 1.5}, {"decay": True}, {"layers": "body.*"}, {"layers": []}, {"layers": [1]}),
    ),
}
