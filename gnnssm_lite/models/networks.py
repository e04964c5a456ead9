"""Networks of layers: encoder, message-passing layers, readout; and one registry of layer names and options."""
from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..checks import check_int
from ..graphs import sparse_matrix
from .convolutions import GAT, GCN, GIN, GatedGCN, GraphSAGE
from .recurrence import GNNSSM, state_matrix


class Network(nn.Module):
    r"""Encoder, then layers on one graph, then readout: ``readout(f_K ∘ ... ∘ f_1(encoder(x)))``.

    Args:
        encoder: ``(..., n, p) -> (..., n, d)``.
        layers: message-passing layers of width ``d``.
        readout: ``(..., n, d) -> (..., n, c)``.
        dropout: probability, applied to the input and before the readout.

    Shapes:
        ``x``: ``(..., n, p)``, or sparse CSR ``(n, p)``; ``graph``: what the layers take beside features; returns
        ``(..., n, c)``.
    """

    def __init__(self, encoder: nn.Module, layers: list[nn.Module], readout: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.layers, self.readout = encoder, nn.ModuleList(layers), readout
        self.dropout = nn.Dropout(dropout)

    @property
    def operator(self) -> str:
        """The operator that the layers ask for (:func:`gnnssm_lite.graphs.operator`)."""
        return self.layers[0].operator if len(self.layers) else "normalized"

    def encode(self, x: Tensor) -> Tensor:
        """``H^{(0)}``, the features that the first layer sees. A sparse ``x`` needs a linear encoder."""
        if x.layout == torch.strided:
            return self.encoder(self.dropout(x))
        # A bag of words is nearly all zeros: dropping and multiplying only its ones is ten times faster on Cora.
        dropped = sparse_matrix(x.crow_indices(), x.col_indices(), self.dropout(x.values()), x.shape)
        return dropped @ self.encoder.weight.T + self.encoder.bias

    def forward(self, x: Tensor, *graph: Tensor) -> Tensor:
        h = self.encode(x)
        for layer in self.layers:
            h = layer(h, *graph)
        return self.readout(self.dropout(h))


class Residual(nn.Module):
    r"""A layer with a plain residual connection, ``H' = H + F(H, A)``: GNN-SSM at ``Λ = B = I``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.operator = layer, getattr(layer, "operator", "normalized")

    def forward(self, h: Tensor, *graph: Tensor) -> Tensor:
        return h + self.layer(h, *graph)


def _plain(layer: type[nn.Module]) -> Callable[..., list[nn.Module]]:
    return lambda dim, depth, generator, **options: [layer(dim, dim, **options) for _ in range(depth)]


def _residual(layer: type[nn.Module]) -> Callable[..., list[nn.Module]]:
    return lambda dim, depth, generator, **options: [Residual(layer(dim, dim, **options)) for _ in range(depth)]


def _ssm(layer: type[nn.Module]) -> Callable[..., list[nn.Module]]:
    def layers(dim: int, depth: int, generator: torch.Generator, eig: float = 1.0, kind: str = "orthogonal",
               input_kind: str = "uniform", **options: object) -> list[nn.Module]:
        # Λ and B are drawn once and shared by all layers (section 3.3 of the paper).
        Lambda = state_matrix(dim, eig, kind, generator)
        B = state_matrix(dim, 1.0, input_kind, generator)
        return [GNNSSM(layer(dim, dim, **options), Lambda, B) for _ in range(depth)]
    return layers


REGISTRY: dict[str, Callable[..., list[nn.Module]]] = {
    "GCN": _plain(GCN), "GAT": _plain(GAT), "GraphSAGE": _plain(GraphSAGE), "GIN": _plain(GIN),
    "GatedGCN": _plain(GatedGCN), "GCN-residual": _residual(GCN), "GAT-residual": _residual(GAT),
    "GCN-SSM": _ssm(GCN), "GAT-SSM": _ssm(GAT),
}


def names() -> list[str]:
    """The names that :func:`build` knows."""
    return sorted(REGISTRY)


def build(name: str, in_dim: int, out_dim: int, hidden_dim: int, num_layers: int, level: str = "node",
          dropout: float = 0.0, seed: int = 0, **options: object) -> Network:
    """A network by the name of its layer: linear encoder, ``num_layers`` layers of width ``hidden_dim``, linear readout.

    Args:
        name: one of :func:`names`.
        in_dim, out_dim, hidden_dim, num_layers: sizes.
        level: ``"node"``: one output a node.
        dropout: see :class:`Network`.
        seed: of weights, ``Λ`` and ``B``; torch's global generator is left as it was.
        options: passed to the layer (``activation``, ``heads``, ...); for the ``-SSM`` names also ``eig`` and ``kind``
            of ``Λ`` (:func:`~gnnssm_lite.models.recurrence.state_matrix`) and ``input_kind`` of ``B``.

    Raises:
        ValueError: an unknown name, with the nearest known one; another level than ``"node"``.
        TypeError: an option that the layer does not take.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name must be one of {names()}; it was {name!r}{hint}")
    if level != "node":
        raise ValueError(f"level must be 'node'; it was {level!r}")
    depth = check_int("num_layers", num_layers, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_int("seed", seed, 0))
        encoder, readout = nn.Linear(in_dim, hidden_dim), nn.Linear(hidden_dim, out_dim)
        layers = REGISTRY[name](hidden_dim, depth, torch.Generator().manual_seed(seed), **options)
    return Network(encoder, layers, readout, dropout)
