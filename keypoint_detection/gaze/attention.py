"""Attention among tokens and to other tokens, and the transformer block made of it."""

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Let every token gather from tokens: its own sequence, or another one.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.2.

    Args:
        width: Channels of the tokens that ask, a multiple of `heads`.
        context_width: Channels of the tokens that answer; None: as many.
        heads: Attention heads.

    Raises:
        ValueError: If the width is no multiple of the heads.
    """

    def __init__(self, width: int, context_width: int | None = None, *, heads: int = 4) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"attention needs a width in multiples of its heads, got {width} and {heads}.")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(context_width or width, width, bias=False)
        self.value = nn.Linear(context_width or width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Gather.

        Args:
            tokens: `[n, t, width]`.
            context: `[n, s, context_width]`; None: the tokens themselves.

        Returns:
            `[n, t, width]`.
        """
        context = tokens if context is None else context
        projected = (self.query(tokens), self.key(context), self.value(context))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        gathered = F.scaled_dot_product_attention(query, key, value)
        return self.out(gathered.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """Transform every token by a hidden layer, half of which gates the other half.

    Source: Shazeer, GLU Variants Improve Transformer, 2020, GEGLU.

    Args:
        width: Channels of the tokens.
        expansion: Hidden channels per channel.
        dropout: Probability of leaving out a hidden channel in training.
    """

    def __init__(self, width: int, *, expansion: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * expansion * width)
        self.dropout = nn.Dropout(dropout)
        self.reduce = nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[n, t, width]` to the same shape."""
        hidden, gate = self.expand(tokens).chunk(2, dim=-1)
        return self.reduce(self.dropout(hidden * F.gelu(gate)))


class TransformerBlock(nn.Module):
    """Add to tokens what they gather from each other, from a context if there is one, and a feed-forward.

    Args:
        width: Channels of the tokens.
        context_width: Channels of the context; None: there is none.
        heads: Attention heads.
        dropout: Probability of leaving out a hidden channel in training.
    """

    def __init__(
        self, width: int, context_width: int | None = None, *, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads=heads)
        self.cross_norm = nn.LayerNorm(width) if context_width else None
        self.cross_attention = Attention(width, context_width, heads=heads) if context_width else None
        self.feed_norm = nn.LayerNorm(width)
        self.feed_forward = GatedFeedForward(width, dropout=dropout)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Map `[n, t, width]`, and a context `[n, s, context_width]`, to `[n, t, width]`."""
        tokens = tokens + self.self_attention(self.self_norm(tokens))
        if self.cross_norm is not None and self.cross_attention is not None:
            tokens = tokens + self.cross_attention(self.cross_norm(tokens), context)
        return tokens + self.feed_forward(self.feed_norm(tokens))


class TokenMixing(nn.Module):
    """Let tokens of all kinds learn from each other by transformer blocks.

    Args:
        width: Channels of the tokens.
        n_layers: Blocks.
        heads: Attention heads.
        dropout: Probability of leaving out a hidden channel in training.
    """

    def __init__(self, width: int, n_layers: int, *, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads=heads, dropout=dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[n, t, width]` to the same shape."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)
