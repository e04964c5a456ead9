"""Argument checks shared by the package: every message names the argument, what it was and what it must be."""
from __future__ import annotations

import numbers

import torch
from torch import Tensor


def check_int(name: str, value: object, minimum: int) -> int:
    """Return ``value``, an integer of Python, numpy or torch, as an int that is at least ``minimum``."""
    if isinstance(value, Tensor) and not value.dim() and not value.is_floating_point() and value.dtype != torch.bool:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer; it was {value!r} of type {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}; it was {value}")
    return int(value)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; it was {value!r}")
    return value


def check_finite(name: str, value: Tensor) -> Tensor:
    """Return ``value`` if all of its entries are finite numbers."""
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise ValueError(f"{name} must be finite; {bad} of its {value.numel()} entries are NaN or infinite")
    return value


def check_floating(name: str, value: object) -> Tensor:
    """Return ``value`` if it is a tensor of a real floating-point type."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; it was {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must have a floating-point dtype; it was {value.dtype}")
    return value


def check_square(name: str, value: object) -> Tensor:
    """Return ``value`` if it is a finite square matrix of a floating-point type."""
    check_floating(name, value)
    if value.dim() != 2 or value.shape[0] != value.shape[1]:
        raise ValueError(f"{name} must be a square matrix; its shape was {tuple(value.shape)}")
    return check_finite(name, value)


def check_features(h: object, name: str = "h") -> Tensor:
    """Return ``h`` if it is a finite floating-point feature matrix of shape ``(..., n, d)``."""
    check_floating(name, h)
    if h.dim() < 2:
        raise ValueError(f"{name} must have shape (..., nodes, features); its shape was {tuple(h.shape)}")
    return h


def under_autocast(h: Tensor) -> bool:
    """Whether torch chooses the dtypes of intermediate results on the device of ``h``."""
    kind = h.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def check_edge_index(edge_index: object, num_nodes: object, undirected: bool = True) -> tuple[Tensor, int]:
    """Return ``(edge_index, num_nodes)`` if they describe a simple graph (self-loops allowed, each at most once).

    Raises:
        TypeError: ``edge_index`` is no integer tensor, or ``num_nodes`` no integer.
        ValueError: wrong shape, no nodes, a node out of range, an edge given twice, or (``undirected``)
            an edge whose reverse is missing.
    """
    num_nodes = check_int("num_nodes", num_nodes, 1)
    if not isinstance(edge_index, Tensor):
        raise TypeError(f"edge_index must be a torch.Tensor; it was {type(edge_index).__name__}")
    if edge_index.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"edge_index must have an integer dtype; it was {edge_index.dtype}")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must have shape (2, number of edges); its shape was {tuple(edge_index.shape)}")
    edge_index = edge_index.long()
    if edge_index.numel() == 0:
        return edge_index, num_nodes
    low, high = int(edge_index.min()), int(edge_index.max())
    if low < 0 or high >= num_nodes:
        raise ValueError(f"edge_index must hold nodes 0 to {num_nodes - 1} (num_nodes = {num_nodes}); "
                         f"it holds {low if low < 0 else high}")
    forward = torch.sort(edge_index[0] * num_nodes + edge_index[1]).values
    twice = forward[1:] == forward[:-1]
    if bool(twice.any()):
        u, v = divmod(int(forward[1:][twice][0]), num_nodes)
        raise ValueError(f"edge_index must give each directed edge once; ({u}, {v}) comes twice "
                         "(torch_geometric.utils.coalesce merges repeated edges)")
    if undirected:
        backward = torch.sort(edge_index[1] * num_nodes + edge_index[0]).values
        if not torch.equal(forward, backward):
            lonely = forward[~torch.isin(forward, backward)]
            u, v = divmod(int(lonely[0]), num_nodes)
            raise ValueError(f"edge_index must be symmetric: edge ({u}, {v}) has no reverse ({v}, {u}) "
                             "(torch_geometric.utils.to_undirected adds the reverses)")
    return edge_index, num_nodes
