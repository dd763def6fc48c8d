"""What the name of a metric says of its direction: smaller, larger, or nothing."""

from __future__ import annotations

import pytest

from reinvest.core.metrics import direction, known_direction

SMALLER = [
    *("loss", "val_loss", "val_loss_epoch", "Loss/test", "valLoss", "error rate", "perplexity", "wer", "bits_per_byte"),
    *("cross-entropy", "MAE", "eval/nll", "loss_score"),
]
LARGER = [
    *("accuracy", "val_acc", "acc1", "top5", "accuracy_top1", "F1", "f1_macro", "AUC", "mIoU", "mean_iou", "dice"),
    *("recall@5", "r2", "bleu", "loss_reduction", "test/mAP", "error_gain", "quality", "success_rate"),
]
UNKNOWN = ["fid", "my_metric", "seconds", "x", "", "lossless", "macro"]


@pytest.mark.parametrize("name", SMALLER)
def test_losses_are_better_where_smaller(name: str) -> None:
    assert known_direction(name) is False and direction(name) is False


@pytest.mark.parametrize("name", LARGER)
def test_shares_and_scores_are_better_where_larger(name: str) -> None:
    assert known_direction(name) is True and direction(name) is True


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_says_nothing_is_not_known_and_is_taken_for_larger_where_one_is_needed(name: str) -> None:
    assert known_direction(name) is None and direction(name) is True


@pytest.mark.parametrize("name", ["loss", "accuracy", "fid"])
@pytest.mark.parametrize("told", [True, False])
def test_what_is_told_goes_before_the_name(name: str, told: bool) -> None:
    assert direction(name, told) is told
