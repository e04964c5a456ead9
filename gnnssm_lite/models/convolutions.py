r"""Message-passing layers in matrix form: each is a function of features ``h`` and an operator ``S``.

``S`` is anything that ``@`` works on: a dense ``(n, n)`` matrix, a sparse CSR matrix, or a batch ``(b, n, n)`` of dense
ones for many small graphs. Each layer's ``operator`` attribute names the operator it expects
(:func:`gnnssm_lite.graphs.operator`). With equal weights every layer gives the same numbers as its namesake in
torch-geometric; ``tests/test_convolutions.py`` holds them to it. Introduced in chapter 1.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax as segment_softmax

from ..checks import check_choice, check_features, check_int, under_autocast
from ..graphs import OPERATORS, edges_of

Activation = Callable[[Tensor], Tensor]


def identity(h: Tensor) -> Tensor:
    """The identity, an activation for linear layers."""
    return h


def resolve_activation(activation: str | Activation | None) -> Activation:
    """``None`` (identity) or a name (``"relu"``, ``"tanh"``, ...) or any elementwise function, as a function.

    Raises:
        TypeError, ValueError: neither a function nor a known name.
    """
    if activation is None or activation == "identity":
        return identity
    if isinstance(activation, str):
        named = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "elu": nn.functional.elu,
                 "gelu": nn.functional.gelu, "leaky_relu": nn.functional.leaky_relu}
        if activation not in named:
            known = sorted([*named, "identity"])
            raise ValueError(f"activation must be a function or one of {known}; it was {activation!r}")
        return named[activation]
    if not callable(activation):
        raise TypeError(f"activation must be a name or a function; it was {activation!r}")
    return activation


def is_linear(layer: nn.Module) -> bool:
    """Whether the layer's activation is the identity."""
    activation = getattr(layer, "activation", None)
    return activation is identity or isinstance(activation, nn.Identity)


class GraphLayer(nn.Module):
    """Base of all layers: widths, activation and the check of ``h`` against ``S``.

    Args:
        in_dim, out_dim: feature widths ``d``, ``d'``.
        activation: σ, a name, an elementwise function, or ``None`` for a linear layer.

    Raises:
        TypeError, ValueError: widths that are no positive integers; an unknown activation.
    """

    operator = "normalized"

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = "relu") -> None:
        super().__init__()
        self.in_dim, self.out_dim = check_int("in_dim", in_dim, 1), check_int("out_dim", out_dim, 1)
        self.activation = resolve_activation(activation)

    def check(self, h: Tensor, S: Tensor) -> None:
        """Refuse features and operators that do not fit each other, before torch fails less clearly."""
        check_input(h, self.in_dim, next(self.parameters(), None))
        if not isinstance(S, Tensor):
            raise TypeError(f"S must be a torch.Tensor, dense or sparse; it was {type(S).__name__}")
        if S.dtype != h.dtype and not under_autocast(h):
            raise TypeError(f"S must have the dtype of h ({h.dtype}); it was {S.dtype}")
        if S.dim() < 2 or S.shape[-1] != h.shape[-2] or S.shape[-2] != h.shape[-2]:
            raise ValueError(f"S must have shape (..., {h.shape[-2]}, {h.shape[-2]}) to fit h of shape {tuple(h.shape)}; "
                             f"its shape was {tuple(S.shape)}")
        if S.layout != torch.strided and (h.dim() > 2 or S.layout != torch.sparse_csr):
            raise ValueError(f"S must be dense for batched h, else dense or torch.sparse_csr; its layout was {S.layout}")

    def lift(self, h: Tensor) -> Tensor:
        """Features as the layer's state: ``h`` itself, except for layers that carry more than ``h``."""
        return h

    def readout(self, state: Tensor) -> Tensor:
        """The features within a state; undoes :meth:`lift`."""
        return state

    def extra_repr(self) -> str:
        return f"{self.in_dim}, {self.out_dim}"


def check_input(h: Tensor, width: int, weight: Tensor | None) -> None:
    """Refuse features that do not fit a layer of this input width with such a weight.

    Args:
        h: features, ``(..., n, d)``.
        width: ``d`` as the layer was built.
        weight: any weight of the layer, for its dtype; ``None`` where there is none.

    Raises:
        TypeError: features that are no floating tensor, or of another dtype than ``weight``.
        ValueError: features of another width, of too few dimensions, or not finite.
    """
    check_features(h)
    if weight is not None and weight.dtype != h.dtype and not under_autocast(h):
        raise TypeError(f"h must have the dtype of the layer ({weight.dtype}); it was {h.dtype} "
                        "(layer.double() and h.double() put both into float64)")
    if h.shape[-1] != width:
        raise ValueError(f"h must have {width} features in its last dimension; its shape was {tuple(h.shape)}")


class GCN(GraphLayer):
    r"""Graph convolution (Eq. 3, chapter 1).

    .. math:: H' = \sigma(S H W)

    Args:
        in_dim, out_dim: feature widths ``d``, ``d'``.
        activation: σ; with ``σ(0) = 0`` and no bias the theory of chapter 5 applies.
        bias: add a bias after aggregation, as torch-geometric's ``GCNConv`` does.
        operator: the ``S`` that the layer is to be given, a kind of :func:`gnnssm_lite.graphs.operator`; networks ask for
            it. ``"normalized"`` is ``Â``; ``"adjacency"`` sums over the neighbours.

    Shapes:
        ``h``: ``(..., n, d)``; ``S``: ``(..., n, n)``, usually ``Â``; returns ``(..., n, d')``.

    Raises:
        ValueError: an unknown operator.

    Source: Kipf & Welling (2017).
    """

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = "relu",
                 bias: bool = False, operator: str = "normalized") -> None:
        super().__init__(in_dim, out_dim, activation)
        self.operator = check_choice("operator", operator, tuple(OPERATORS))
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        out = S @ (h @ self.weight)
        return self.activation(out if self.bias is None else out + self.bias)

    def kronecker_terms(self) -> dict[int, Tensor]:
        """``{1: W}``: the Jacobian of the linear layer is ``Wᵀ ⊗ S`` (Lemma 3.1)."""
        return {1: self.weight}


class GAT(GraphLayer):
    r"""Graph attention over the closed neighbourhood ``N(u) ∪ {u}``.

    .. math::
        \alpha_{uv} = \operatorname{softmax}_v \operatorname{LeakyReLU}(a_{dst}^\top W h_u + a_{src}^\top W h_v), \qquad
        h'_u = \sigma\Big(\sum_{v \in N(u) \cup \{u\}} \alpha_{uv} W h_v\Big)

    Args:
        in_dim, out_dim: feature widths; with several heads ``out_dim`` must be divisible by ``heads``.
        activation: σ.
        heads: number of attention heads, concatenated.
        negative_slope: slope of the LeakyReLU.
        bias: add a bias before σ.

    Shapes:
        ``h``: ``(..., n, d)``; ``S``: ``(..., n, n)``, only its pattern counts; returns ``(..., n, d')``.

    Raises:
        TypeError, ValueError: as :class:`GraphLayer`; heads that do not divide ``out_dim``.

    Source: Veličković et al. (2018); torch-geometric's ``GATConv``.
    """

    operator = "adjacency"

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = "relu", heads: int = 1,
                 negative_slope: float = 0.2, bias: bool = False) -> None:
        super().__init__(in_dim, out_dim, activation)
        self.heads, self.negative_slope = check_int("heads", heads, 1), negative_slope
        if out_dim % heads:
            raise ValueError(f"heads must divide out_dim = {out_dim}; it was {heads}")
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.att_src = nn.Parameter(torch.empty(heads, out_dim // heads))
        self.att_dst = nn.Parameter(torch.empty(heads, out_dim // heads))
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None
        for parameter in (self.weight, self.att_src, self.att_dst):
            nn.init.xavier_uniform_(parameter)

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        z = (h @ self.weight).unflatten(-1, (self.heads, -1))            # (..., n, heads, d'/heads)
        receiver, sender = (z * self.att_dst).sum(-1), (z * self.att_src).sum(-1)  # (..., n, heads)
        combine = self._dense if S.layout == torch.strided else self._sparse
        out = combine(z, receiver, sender, S).flatten(-2)
        return self.activation(out if self.bias is None else out + self.bias)

    def _dense(self, z: Tensor, receiver: Tensor, sender: Tensor, S: Tensor) -> Tensor:
        score = receiver.mT.unsqueeze(-1) + sender.mT.unsqueeze(-2)      # (..., heads, n, n): softmax is slow elsewhere
        score = nn.functional.leaky_relu(score, self.negative_slope) + _closed_mask(S).unsqueeze(-3)
        return torch.einsum("...kuv,...vkd->...ukd", score.softmax(-1), z)

    def _sparse(self, z: Tensor, receiver: Tensor, sender: Tensor, S: Tensor) -> Tensor:
        u, v = _closed_edges(S)
        score = nn.functional.leaky_relu(receiver[u] + sender[v], self.negative_slope)
        alpha = segment_softmax(score, u, num_nodes=S.shape[0])
        return torch.zeros_like(z).index_add(0, u, alpha.unsqueeze(-1) * z[v])


def _closed_mask(S: Tensor) -> Tensor:
    """What to add to scores of a dense ``S``: 0 on its pattern and the diagonal, minus infinity elsewhere."""
    closed = (S != 0) | torch.eye(S.shape[-1], dtype=torch.bool, device=S.device)
    return torch.where(closed, 0.0, -torch.inf).to(S.dtype)


def _closed_edges(S: Tensor) -> Tensor:
    """Edges of the pattern of ``S`` with every self-loop once."""
    edges = edges_of(S)
    nodes = torch.arange(S.shape[0], device=edges.device)
    return torch.cat([edges[:, edges[0] != edges[1]], nodes.expand(2, -1)], 1)


class GraphSAGE(GraphLayer):
    r"""GraphSAGE with mean aggregation.

    .. math:: H' = \sigma(H W_1 + D^{-1} A H W_2)

    Args:
        in_dim, out_dim, activation: as :class:`GCN`.
        bias: add a bias before σ.

    Shapes:
        ``h``: ``(..., n, d)``; ``S = D^{-1} A``: ``(..., n, n)`` (:func:`gnnssm_lite.graphs.mean_adjacency`);
        returns ``(..., n, d')``.

    Raises:
        TypeError, ValueError: as :class:`GraphLayer`.

    Source: Hamilton et al. (2017); torch-geometric's ``SAGEConv``.
    """

    operator = "mean"

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = "relu",
                 bias: bool = False) -> None:
        super().__init__(in_dim, out_dim, activation)
        self.root = nn.Linear(in_dim, out_dim, bias=False)
        self.neighbours = nn.Linear(in_dim, out_dim, bias=bias)

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        return self.activation(self.root(h) + self.neighbours(S @ h))

    def kronecker_terms(self) -> dict[int, Tensor]:
        """``{0: W_1, 1: W_2}``: the Jacobian of the linear layer is ``W_1ᵀ ⊗ I + W_2ᵀ ⊗ S``."""
        return {0: self.root.weight.T, 1: self.neighbours.weight.T}


class GIN(GraphLayer):
    r"""Graph isomorphism network layer.

    .. math:: H' = \sigma\big(\operatorname{MLP}((1 + \varepsilon) H + A H)\big)

    Args:
        in_dim, out_dim, activation: as :class:`GCN`; σ acts on the MLP's output.
        mlp: any module ``(..., d) -> (..., d')``; by default Linear, ReLU, Linear of width ``d'``; ``"linear"``: one Linear.
        epsilon: the initial ε. train_epsilon: whether it is trained.

    Shapes:
        ``h``: ``(..., n, d)``; ``S = A``: ``(..., n, n)``; returns ``(..., n, d')``.

    Raises:
        TypeError, ValueError: as :class:`GraphLayer`; another name than ``"linear"`` for ``mlp``.

    Source: Xu et al. (2018); torch-geometric's ``GINConv``.
    """

    operator = "adjacency"

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = None,
                 mlp: nn.Module | str | None = None, epsilon: float = 0.0, train_epsilon: bool = False) -> None:
        super().__init__(in_dim, out_dim, activation)
        if isinstance(mlp, str):
            check_choice("mlp", mlp, ("linear",))
            mlp = nn.Linear(in_dim, out_dim)
        if mlp is None:
            mlp = nn.Sequential(nn.Linear(in_dim, out_dim), nn.ReLU(), nn.Linear(out_dim, out_dim))
        self.mlp = mlp
        self.epsilon = nn.Parameter(torch.tensor(float(epsilon)), requires_grad=train_epsilon)

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        return self.activation(self.mlp((1 + self.epsilon) * h + S @ h))

    def kronecker_terms(self) -> dict[int, Tensor] | None:
        """``{0: (1 + ε) W, 1: W}`` when the MLP is one linear map ``W``, else ``None``."""
        if type(self.mlp) is not nn.Linear:  # a subclass may compute something else
            return None
        return {0: (1 + self.epsilon) * self.mlp.weight.T, 1: self.mlp.weight.T}


class GatedGCN(GraphLayer):
    r"""Residual gated graph convolution.

    .. math::
        h'_u = \sigma\Big(W_1 h_u + \sum_{v \in N(u)} \eta_{uv} \odot W_2 h_v\Big), \qquad
        \eta_{uv} = \operatorname{sigmoid}(W_3 h_u + W_4 h_v)

    Args:
        in_dim, out_dim, activation: as :class:`GCN`.
        bias: biases in the three message maps, and one on the output, as torch-geometric has them.

    Shapes:
        ``h``: ``(..., n, d)``; ``S``: ``(..., n, n)``, only its pattern counts; returns ``(..., n, d')``.
        A dense ``S`` takes ``n² d'`` numbers of memory, a sparse one ``E d'``.

    Raises:
        TypeError, ValueError: as :class:`GraphLayer`.

    Source: Bresson & Laurent (2017); torch-geometric's ``ResGatedGraphConv``.
    """

    operator = "adjacency"

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = "relu",
                 bias: bool = False) -> None:
        super().__init__(in_dim, out_dim, activation)
        self.root = nn.Linear(in_dim, out_dim, bias=False)
        self.value, self.key, self.query = (nn.Linear(in_dim, out_dim, bias=bias) for _ in range(3))
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        key, query, value = self.key(h), self.query(h), self.value(h)    # W_3 h, W_4 h, W_2 h
        combine = self._dense if S.layout == torch.strided else self._sparse
        out = self.root(h) + combine(key, query, value, S)
        return self.activation(out if self.bias is None else out + self.bias)

    @staticmethod
    def _dense(key: Tensor, query: Tensor, value: Tensor, S: Tensor) -> Tensor:
        gate = torch.sigmoid(key.unsqueeze(-2) + query.unsqueeze(-3))    # (..., n, n, d')
        return ((S != 0).unsqueeze(-1) * gate * value.unsqueeze(-3)).sum(-2)

    @staticmethod
    def _sparse(key: Tensor, query: Tensor, value: Tensor, S: Tensor) -> Tensor:
        u, v = edges_of(S)
        return torch.zeros_like(value).index_add(0, u, torch.sigmoid(key[u] + query[v]) * value[v])
