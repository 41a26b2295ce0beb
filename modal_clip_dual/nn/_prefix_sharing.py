"""One block of a causal text tower over many names behind one shared prefix, exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock


class Names:
    """The tokens of C names laid end to end, so that nothing is computed for what follows shorter names.

    Parameters
    ----------
    lengths : torch.Tensor of shape (C,)
        Number of tokens of each name, its end of text included; N is their sum and L the largest.
    """

    def __init__(self, lengths: torch.Tensor):
        self.shape = len(lengths), int(lengths.max())
        column = torch.arange(self.shape[1], device=lengths.device)
        behind = lengths.cumsum(0)
        is_token = column < lengths[:, None]
        self._are_equal = bool(is_token.all())  # then both layouts are the same
        # Where tokens stand among the C * L places of a padded layout, and the token of each place; those behind the
        # end of a name hold any token, since no token of the name looks ahead to them.
        self._of_token = is_token.flatten().nonzero()[:, 0]
        self._of_place = ((behind - lengths)[:, None] + column).clamp(max=int(behind[-1]) - 1).flatten()
        self.ends = behind - 1  # (C,) the end of text of each name
        self.is_ahead = column > column.expand(self.shape)[is_token][:, None]  # (N, L)

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens (..., N, d) of a padded layout (..., C, L, d)."""
        x = x.flatten(-3, -2)
        return x if self._are_equal else torch.index_select(x, -2, self._of_token)

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """Return the padded layout (..., C, L, d) of tokens (..., N, d)."""
        if not self._are_equal:
            x = torch.index_select(x, -2, self._of_place)
        return x.view(*x.shape[:-2], *self.shape, x.shape[-1])


def block_with_names(
    block: ResidualAttentionBlock, x: torch.Tensor, names: Names, n_prefix: int, ends_only: bool = False
) -> torch.Tensor:
    """Apply one block to a prefix and the tokens of all names, x (P, n_prefix + N, width).

    The result equals the block's output for the C concatenated sequences under a causal mask; with ``ends_only`` it
    is that of their ends of text alone, (P, C, width).
    """
    query, key, value = _heads(block, x)  # (P, H, n_prefix + N, d)
    parts = [n_prefix, x.shape[1] - n_prefix]
    (query_p, query_n), (key_p, key_n), (value_p, value_n) = (x.split(parts, dim=2) for x in (query, key, value))
    key_n, value_n, is_ahead = names.pad(key_n), names.pad(value_n), names.is_ahead  # (P, H, C, L, d)
    if ends_only:
        query_n, is_ahead = query_n[:, :, names.ends], is_ahead[names.ends]
        to_name = (query_n[..., None, :] @ key_n.transpose(-1, -2)).squeeze(-2)
    else:
        to_name = names.pack(names.pad(query_n) @ key_n.transpose(-1, -2))
    # All tokens attend to the same prefix, and to those of their own name that are not ahead.
    to_name = to_name.masked_fill(is_ahead, float("-inf"))
    scores = torch.cat([query_n @ key_p.transpose(-1, -2), to_name], dim=-1)
    weights = (scores * block.attn.head_dim**-0.5).softmax(dim=-1)
    on_prefix, on_name = weights.split([n_prefix, names.shape[1]], dim=-1)
    if ends_only:
        attended = on_prefix @ value_p + (on_name[..., None, :] @ value_n).squeeze(-2)
        return _finish(block, x[:, n_prefix + names.ends], attended)
    attended = on_prefix @ value_p + names.pack(names.pad(on_name) @ value_n)
    prefix = F.scaled_dot_product_attention(query_p, key_p, value_p, is_causal=True)
    return _finish(block, x, torch.cat([prefix, attended], dim=2))


def _heads(block: ResidualAttentionBlock, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values (..., heads, length, head width) of x (..., length, width)."""
    attention = block.attn
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    qkv = qkv.unflatten(-1, (3, attention.num_heads, attention.head_dim))
    return tuple(part.transpose(-3, -2) for part in qkv.unbind(-3))


def _finish(block: ResidualAttentionBlock, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Compute the rest of a residual block, from the heads' output on."""
    attended = attended.transpose(-3, -2).flatten(-2)
    x = x + block.ls_1(block.attn.out_proj(attended))
    finished: torch.Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return finished
