"""What the name of a metric says of its direction."""

from __future__ import annotations

import re

LOSSES = frozenset(
    {
        *("loss", "error", "perplexity", "nll", "mse", "mae", "rmse", "cross_entropy", "brier"),
        *("wer", "cer", "ppl", "errors", "err", "logloss", "xent"),
        *("bpb", "bpc", "bits_per_byte", "bits_per_character", "bits_per_dim"),
    }
)
"""Words of which the smallest value is the best."""
LAST = frozenset({"accuracy", "acc", "f1", "auc", "reduction", "gain"})
"""What a name may end with that speaks of a loss and rises all the same."""
GAINS = LAST | {
    *("precision", "recall", "top", "ap", "map", "auroc", "auprc", "iou", "miou", "dice", "jaccard", "kappa", "mcc"),
    *("sensitivity", "specificity", "bleu", "rouge", "meteor", "chrf", "r2", "psnr", "ssim", "ndcg", "mrr"),
    *("score", "quality", "reward", "success", "correct"),
}
"""Words of which the largest value is the best."""


def plain_name(metric: str) -> str:
    """ "Loss/test" as "loss_test", "valLoss" as "val_loss"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", str(metric)).strip("_").lower()


def known_direction(metric: str) -> bool | None:
    """Whether higher is better by the metric's name: False for "loss", "val_loss_epoch", "Loss/test", "error rate", ...;
    True for "accuracy", "top5", "recall@5", ...; None for a name that says neither."""
    name = plain_name(metric)
    if name.split("_")[-1] in LAST:
        return True
    if any(f"_{loss}_" in f"_{name}_" for loss in LOSSES):
        return False
    # "mIoU" and "mAP" are written with a capital inside.
    words = {word for text in (name, str(metric).lower()) for word in re.split(r"[^a-z0-9]+", text.replace("_", " "))}
    return True if any(word in GAINS or word.rstrip("0123456789") in GAINS for word in words) else None


def direction(metric: str, higher_is_better: bool | None = None) -> bool:
    """Whether higher is better: as given, else by the metric's name; a name that says nothing is taken for higher."""
    return known_direction(metric) is not False if higher_is_better is None else higher_is_better
