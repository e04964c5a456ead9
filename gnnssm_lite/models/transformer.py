"""A graph transformer layer: local message passing beside attention between all nodes. Introduced in chapter 10."""
from __future__ import annotations

from torch import Tensor, nn

from ..checks import check_choice, check_int
from .convolutions import GCN, Activation, GraphLayer, resolve_activation
from .recurrence import _check_operator_coupling

NORMS = ("batch", "layer", "none")


class _Activation(nn.Module):
    """An elementwise function as a module, for use inside ``nn.Sequential``."""

    def __init__(self, activation: str | Activation | None) -> None:
        super().__init__()
        self.function = resolve_activation(activation)

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)


class NodeNorm(nn.Module):
    """Normalisation of node features: over all nodes of all graphs (``"batch"``), over features (``"layer"``), or none.

    Shapes:
        ``(..., n, d) -> (..., n, d)``.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        check_choice("norm", kind, NORMS)
        self.norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": lambda dim: nn.Identity()}[kind](dim)

    def forward(self, h: Tensor) -> Tensor:
        return self.norm(h.flatten(0, -2)).view_as(h)


class GPS(GraphLayer):
    r"""A GPS layer: a message-passing layer and global attention, added up, then a small network at each node.

    .. math::
        Z = N_1\big(H + F(H, S)\big) + N_2\big(H + \operatorname{Attention}(H)\big), \qquad
        H' = N_3\big(Z + \operatorname{MLP}(Z)\big)

    Attention lets every node see all others in one layer, whatever the graph: a rewiring to the complete graph with
    learnt weights.

    Args:
        dim: feature width ``d``.
        heads: attention heads; they must divide ``dim``.
        activation: σ of the MLP (Linear to ``2 d``, σ, Linear).
        coupling: ``F``, any layer of width ``dim``; a linear :class:`~gnnssm_lite.models.convolutions.GCN` if ``None``.
        norm: ``N_i``: ``"batch"`` as in the model's paper, ``"layer"`` or ``"none"``.

    Shapes:
        ``h``: ``(..., n, d)``, attention is within each group of ``n`` nodes, so several graphs go in as ``(b, n, d)``;
        ``S``: what the coupling asks for; returns ``(..., n, d)``.

    Raises:
        TypeError, ValueError: numbers out of range, heads that do not divide ``dim``, an unknown norm.

    Left out: dropout, positional and structural encodings of the input. torch-geometric's ``GPSConv`` gives the same
    numbers. With ``"batch"`` norms the running statistics depend on how training groups the graphs.

    Source: Rampášek et al. (2022), "Recipe for a general, powerful, scalable graph transformer".
    """

    def __init__(self, dim: int, heads: int = 1, activation: str | Activation | None = "relu",
                 coupling: GraphLayer | None = None, norm: str = "batch") -> None:
        super().__init__(dim, dim, activation)
        if self.in_dim % check_int("heads", heads, 1):
            raise ValueError(f"heads must divide dim = {dim}; it was {heads}")
        self.coupling = GCN(dim, dim, activation=None) if coupling is None else _check_operator_coupling(coupling)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), _Activation(activation), nn.Linear(2 * dim, dim))
        self.norms = nn.ModuleList(NodeNorm(dim, norm) for _ in range(3))

    @property
    def operator(self) -> str:
        """The operator that the coupling asks for."""
        return getattr(self.coupling, "operator", "normalized")

    def _attend(self, h: Tensor) -> Tensor:
        graphs = h.reshape(-1, *h.shape[-2:])
        # With weights asked for, torch takes the way that it can also differentiate for many directions at once.
        return self.attention(graphs, graphs, graphs, need_weights=True)[0].view(h.shape)

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        local = self.norms[0](h + self.coupling(h, S))
        everywhere = self.norms[1](h + self._attend(h))
        z = local + everywhere
        return self.norms[2](z + self.mlp(z))
