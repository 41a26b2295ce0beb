"""One block of a causal text tower over many names behind one shared prefix, exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock


def heads(block: ResidualAttentionBlock, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values (..., heads, length, head width) of x (..., length, width)."""
    attention = block.attn
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    qkv = qkv.unflatten(-1, (3, attention.num_heads, attention.head_dim))
    return tuple(part.transpose(-3, -2) for part in qkv.unbind(-3))


def finish(block: ResidualAttentionBlock, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Compute the rest of a residual block, from the heads' output on."""
    attended = attended.transpose(-3, -2).flatten(-2)
    x = x + block.ls_1(block.attn.out_proj(attended))
    finished: torch.Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return finished


def block_behind_prefix(
    block: ResidualAttentionBlock, name: torch.Tensor, key_p: torch.Tensor, value_p: torch.Tensor
) -> torch.Tensor:
    """Apply one block to names (P, C, L, width) behind a prefix with keys and values (P, H, Lp, d).

    The result equals the block's output for the names in the C concatenated sequences under a
    causal mask.
    """
    query, key, value = heads(block, name)  # (P, C, H, L, d)
    n_classes, length, n_prefix = name.shape[1], name.shape[2], key_p.shape[2]
    scale = block.attn.head_dim**-0.5

    # All names attend to the same prefix, so their queries form one long sequence.
    aligned = query.transpose(1, 2).flatten(2, 3)  # (P, H, C * L, d)
    to_prefix = (aligned @ key_p.transpose(-1, -2)).unflatten(2, (n_classes, length))
    to_prefix = to_prefix.transpose(1, 2)  # (P, C, H, L, Lp)
    future = torch.ones(length, length, dtype=torch.bool, device=name.device).triu(1)
    to_name = (query @ key.transpose(-1, -2)).masked_fill(future, float("-inf"))
    weights = (torch.cat([to_prefix, to_name], dim=-1) * scale).softmax(dim=-1)
    on_prefix, on_name = weights.split([n_prefix, length], dim=-1)
    aligned = on_prefix.transpose(1, 2).flatten(2, 3)  # (P, H, C * L, Lp)
    attended = (aligned @ value_p).unflatten(2, (n_classes, length)).transpose(1, 2)
    return finish(block, name, attended + on_name @ value)
