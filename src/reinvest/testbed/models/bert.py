"""Models that read in both directions (Devlin et al. 2018, arXiv 1810.04805): hidden tokens, or a sentence's class.

`bert` and `bert_classifier` have the same trunk under the same names, `trunk.*`: a classifier can begin with the trunk
of a model trained on books, and only its `classifier.*` is new.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InvalidValue
from ..tasks.tokens import MASK, PAD, vocabulary_size
from ._checks import positive
from .transformer import Trunk, build_trunk, init_weights, token_length

ENOUGH = 1000
"""Tokens of a batch that is sure to hide some, if any are hidden: 150 chosen, each left visible with chance 0.2."""


class Bert(nn.Module):
    """Trunk, a layer of its own for prediction, then the embedding as output layer with a bias."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        vocabulary, width = trunk.embed.weight.shape
        self.predictor = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        init_weights(self.predictor)
        self._checked = False

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, V, T] of tokens int64 [B, T]: column t is about token t itself (torch's layout, classes second).

        Raises InvalidValue if the first training batch hides nothing: the answers would be there to be read.
        """
        if self.training and not self._checked:
            self._checked = True
            if x.numel() >= ENOUGH and not bool((x == MASK).any()):
                raise InvalidValue(
                    "bert learns to predict hidden tokens, got a batch in which none is hidden; "
                    "use objective='masked', or the model gpt"
                )
        return F.linear(self.predictor(self.trunk(x)), self.trunk.embed.weight, self.bias).movedim(-1, 1)


class BertClassifier(nn.Module):
    """Trunk, mean over a sentence's own tokens, dropout, linear layer."""

    def __init__(self, trunk: Trunk, classes: int, *, dropout: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.drop = nn.Dropout(dropout)
        self.classifier = nn.Linear(trunk.embed.weight.shape[1], classes)
        init_weights(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of tokens int64 [B, T]; tokens 0, which fill up, change nothing."""
        seen = x != PAD
        vectors = self.trunk(x, seen).masked_fill(~seen.unsqueeze(-1), 0.0)
        mean = vectors.sum(1) / seen.sum(1, keepdim=True)
        logits: Tensor = self.classifier(self.drop(mean))
        return logits


def bert(
    *,
    input_shape: Sequence[int],
    classes: int,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    dropout: float = 0.0,
    positions: int | None = None,
) -> Bert:
    """A masked language model over `classes` tokens, 859,778 parameters for bytes and length 128.

    Options and errors as for `gpt`; inputs have no tokens that fill up.
    """
    trunk = build_trunk(
        "bert",
        length=token_length("bert", input_shape),
        vocabulary=positive("classes", classes),
        causal=False,
        width=width,
        layers=layers,
        heads=heads,
        dropout=dropout,
        positions=positions,
    )
    return Bert(trunk)


def bert_classifier(
    *,
    input_shape: Sequence[int],
    classes: int,
    vocabulary: int | str = "bytes",
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    dropout: float = 0.0,
    positions: int | None = None,
) -> BertClassifier:
    """A sentence classifier with the trunk of `bert`.

    vocabulary: the task's, "bytes" or the size of a BPE vocabulary. positions: that of the `bert` whose trunk it is to
    take over, if that reads longer inputs. Options and errors as for `gpt`.
    """
    trunk = build_trunk(
        "bert_classifier",
        length=token_length("bert_classifier", input_shape),
        vocabulary=vocabulary_size(vocabulary),
        causal=False,
        width=width,
        layers=layers,
        heads=heads,
        dropout=dropout,
        positions=positions,
    )
    return BertClassifier(trunk, positive("classes", classes), dropout=float(dropout))
