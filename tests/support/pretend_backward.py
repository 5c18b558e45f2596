"""PyTorch's backward pass, node by node in Python: its own engine asks CUDA for streams, which are not there.

The nodes are PyTorch's; what is done here is the order, the sums, and the cut to the shape and type that a
node wants.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def backward(outputs: Sequence[Tensor], gradients: Sequence[Tensor], *_: Any, **__: Any) -> None:
    """Add up the gradients of the leaves of one output."""
    (root,) = outputs
    waiting: dict[Any, list[Tensor | None]] = {root.grad_fn: list(gradients)}
    for node in _in_order(root.grad_fn):
        if node not in waiting:
            continue
        found = waiting.pop(node)
        if hasattr(node, "variable"):
            (gradient,), leaf = found, node.variable
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
            continue
        back = node(*found)
        for (following, number), gradient in zip(
            node.next_functions, back if isinstance(back, tuple) else (back,), strict=True
        ):
            if following is not None and gradient is not None:
                wanted = following._input_metadata
                sums = waiting.setdefault(following, [None] * len(wanted))
                cut = gradient.sum_to_size(wanted[number].shape).to(wanted[number].dtype)
                sums[number] = cut if sums[number] is None else sums[number] + cut


def _in_order(root: Any) -> list[Any]:
    """Return the nodes of a graph, each before those that it hands gradients to."""
    order: list[Any] = []
    seen = {root}
    stack = [(root, iter(root.next_functions))]
    while stack:
        node, following = stack[-1]
        child = next((x for x, _ in following if x is not None and x not in seen), None)
        if child is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(child)
            stack.append((child, iter(child.next_functions)))
    return order[::-1]
