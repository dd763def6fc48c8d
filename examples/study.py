"""The same kind of study in Python: reinvest compare examples/study.py"""

from __future__ import annotations

import reinvest as ri

baseline = ri.Recipe(
    task={"name": "digits", "augment": "crop-flip"},
    model="convnet",
    batch_size=64,
    optimizer={"name": "sgd", "lr": 0.4, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
)

study = ri.Study(
    baseline=baseline,
    arms={f"smoothing {alpha}": baseline.with_(ri.LabelSmoothing(alpha)) for alpha in (0.05, 0.1, 0.2)},
    durations=["3ep", "6ep", "12ep", "24ep"],
    seeds=5,
    title="How much label smoothing",
)
