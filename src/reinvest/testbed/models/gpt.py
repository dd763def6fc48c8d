"""A causal language model: each token is predicted from those before it (Radford et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InvalidValue
from ..tasks.tokens import MASK
from ._checks import positive
from .transformer import Trunk, build_trunk, token_length


class GPT(nn.Module):
    """Trunk with causal attention; the embedding is also the output layer, so it has no weights of its own there."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self._checked = False

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, V, T] of tokens int64 [B, T]: column t is about token t + 1 (torch's layout, classes second).

        Raises InvalidValue if the first training batch has hidden tokens: those are no text.
        """
        if self.training and not self._checked:
            self._checked = True
            if bool((x == MASK).any()):
                raise InvalidValue(
                    "gpt learns from text as it is, got tokens that are hidden; use objective='causal', or the model bert"
                )
        return F.linear(self.trunk(x), self.trunk.embed.weight).movedim(-1, 1)


def gpt(
    *,
    input_shape: Sequence[int],
    classes: int,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    dropout: float = 0.0,
    positions: int | None = None,
) -> GPT:
    """A causal transformer over `classes` tokens, 842,752 parameters for bytes and length 128.

    width: of a token's vector, a multiple of `heads`; layers: blocks of attention and a perceptron of 4 x width;
    dropout: from 0.0 to below 1.0; positions: longest input, at least and by default the task's length.
    Raises InvalidValue for inputs of another shape than (length,) and for options that break these rules.
    """
    trunk = build_trunk(
        "gpt",
        length=token_length("gpt", input_shape),
        vocabulary=positive("classes", classes),
        causal=True,
        width=width,
        layers=layers,
        heads=heads,
        dropout=dropout,
        positions=positions,
    )
    return GPT(trunk)
