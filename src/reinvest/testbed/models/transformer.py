"""The trunk that `gpt`, `bert` and `bert_classifier` share: tokens in, a vector for every token out.

Layer norm before each part (Xiong et al. 2020, arXiv 2002.04745) and learned positions. The names of its parameters are
the same in all three models, so that weights of one fit another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InvalidValue
from ._checks import positive

INIT_STD = 0.02


class Attention(nn.Module):
    """Every token looks at all others, or (causal) at those up to itself: [B, T, width] -> [B, T, width].

    score_bias: None, or a module that gives for a length T what is added to the scores before their softmax,
    [heads, T, T]; if causal it also hides what comes later, by minus infinity.
    """

    score_bias: nn.Module | None

    def __init__(self, width: int, heads: int, *, causal: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout, self.score_bias = heads, causal, dropout, None
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """seen: bool [B, 1, 1, T], False for tokens at which nobody looks; None: all are there."""
        rows, length, width = x.shape
        parts = self.qkv(x).view(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        rate = self.dropout if self.training else 0.0
        mask, causal = seen, self.causal
        if self.score_bias is not None:
            bias = self.score_bias(length).to(query.dtype)
            mask, causal = bias if seen is None else torch.where(seen, bias, -math.inf), False
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate, is_causal=causal)
        mixed: Tensor = self.out(y.transpose(1, 2).reshape(rows, length, width))
        return mixed


class Layer(nn.Module):
    """x + attention(norm(x)), then x + a perceptron(norm(x)); the shape [B, T, width] stays."""

    def __init__(self, width: int, heads: int, *, causal: bool, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.activation = nn.GELU()
        self.shrink = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """The layer's output."""
        x = x + self.drop(self.attention(self.norm1(x), seen))
        found: Tensor = x + self.drop(self.shrink(self.activation(self.expand(self.norm2(x)))))
        return found


class Trunk(nn.Module):
    """Tokens int64 [B, T] -> vectors [B, T, width], for T up to `positions`; for any T where these are None."""

    positions: nn.Parameter | None

    def __init__(
        self, vocabulary: int, positions: int, *, width: int, layers: int, heads: int, causal: bool, dropout: float
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        learned = nn.Parameter(torch.empty(positions, width))
        self.positions = learned
        self.drop = nn.Dropout(dropout)
        made = [Layer(width, heads, causal=causal, dropout=dropout) for _ in range(layers)]
        self.layers = nn.ModuleList(made)
        self.norm = nn.LayerNorm(width)
        init_weights(self)
        nn.init.normal_(learned, std=INIT_STD)
        for layer in made:
            # What every layer adds to the stream is drawn smaller, so that the sum does not grow with the depth.
            for linear in (layer.attention.out, layer.shrink):
                nn.init.normal_(linear.weight, std=INIT_STD / math.sqrt(2 * layers))

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """seen: bool [B, T], False for tokens that fill a sentence up (each row has one that is True).

        Raises InvalidValue for anything but whole numbers of the vocabulary [B, T] with T up to `positions`.
        """
        most = None if self.positions is None else len(self.positions)
        if tokens.ndim != 2 or tokens.is_floating_point() or (most is not None and tokens.shape[1] > most):
            raise InvalidValue(
                f"this model takes tokens, whole numbers of shape [B, T]{'' if most is None else f' with T up to {most}'}, "
                f"got {tokens.dtype} {list(tokens.shape)}; use a task of texts such as books, "
                "or build it with more positions"
            )
        try:
            vectors = self.embed(tokens)
        except IndexError as error:
            raise InvalidValue(
                f"this model knows tokens from 0 to {self.embed.num_embeddings - 1}, got {int(tokens.min())}.."
                f"{int(tokens.max())}; give model and task the same vocabulary"
            ) from error
        x = self.drop(vectors if self.positions is None else vectors + self.positions[: tokens.shape[1]])
        keys = None if seen is None else seen[:, None, None, :]
        for layer in self.layers:
            x = layer(x, keys)
        found: Tensor = self.norm(x)
        return found


def init_weights(module: nn.Module) -> None:
    """Linear and embedding weights normal with deviation 0.02, biases 0, in place; norms keep their own start."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)


def token_length(model: str, input_shape: Sequence[int]) -> int:
    """T of inputs of shape (T,). Raises InvalidValue for another shape."""
    shape = tuple(input_shape)
    if len(shape) != 1:
        raise InvalidValue(f"{model} takes tokens of shape (length,), got {shape}; use a task of texts such as books")
    return positive(f"{model}'s length", shape[0])


def build_trunk(
    model: str,
    *,
    length: int,
    vocabulary: int,
    causal: bool,
    width: int,
    layers: int,
    heads: int,
    dropout: float,
    positions: int | None,
) -> Trunk:
    """A trunk out of checked options. Raises InvalidValue for one that breaks its rule."""
    for what, value in (("width", width), ("layers", layers), ("heads", heads)):
        positive(f"{model}'s {what}", value)
    if width % heads:
        raise InvalidValue(f"{model}'s heads divide its width, got {heads} for {width}; choose a divisor")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise InvalidValue(f"{model}'s dropout is a share from 0.0 (none) to below 1.0, got {dropout!r}; 0.1 is usual")
    rows = length if positions is None else positive(f"{model}'s positions", positions)
    if rows < length:
        raise InvalidValue(
            f"{model} has a position for every token of an example ({length}), got {rows}; leave positions out"
        )
    return Trunk(vocabulary, rows, width=width, layers=layers, heads=heads, causal=causal, dropout=float(dropout))
