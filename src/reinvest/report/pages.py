"""Which page is drawn from which kind of result; found by name from the layers below."""

from __future__ import annotations

from .ablation import write_ablation
from .gate import write_gate
from .html import write_report
from .outcomes import write_outcomes
from .plan import write_plan
from .sequence import write_sequence
from .spikes import write_spikes
from .tune import write_tuning
from .variance import write_variance
from .workloads import write_workloads

catalog = {
    "html": write_report,
    "ablation": write_ablation,
    "gate": write_gate,
    "outcomes": write_outcomes,
    "plan": write_plan,
    "sequence": write_sequence,
    "spikes": write_spikes,
    "tuning": write_tuning,
    "variance": write_variance,
    "workloads": write_workloads,
}
"""Writers (result, path) -> path; "html" is the page of a comparison."""
