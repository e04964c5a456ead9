r"""Layers that are one step of a dynamical system, in matrix form. Introduced in chapter 7.

Each is stated from its own paper, and each docstring says what of that paper is left out. First-order systems are
forward Euler steps ``H + ε field(H)`` and expose the right-hand side as ``field``; second-order systems carry a state
of twice the width, which ``lift`` makes from features and ``readout`` gives back. Layers that need the input features
``H^{(0)}`` take them as an extra argument after ``S``, so that ``graph = (S, h0)`` works wherever ``*graph`` does.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax as segment_softmax

from ..checks import check_choice, check_int
from .convolutions import GCN, Activation, GraphLayer, _closed_edges, _closed_mask
from .recurrence import _check_operator_coupling


def _number(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> float:
    """``value`` as a finite float within ``[low, high]``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number; it was {value!r} of type {type(value).__name__}")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be finite and within [{low}, {high}]; it was {value}")
    return float(value)


def _weight(dim: int) -> nn.Parameter:
    """A ``(d, d)`` weight with entries ``U(-1/√d, 1/√d)``, the initialisation of an untrained linear layer."""
    return nn.Parameter((2 * torch.rand(dim, dim) - 1) / math.sqrt(dim))


def _check_initial(h: Tensor, h0: Tensor | None) -> Tensor:
    if h0 is None:
        return h
    if not isinstance(h0, Tensor) or h0.shape != h.shape or h0.dtype != h.dtype:
        was = (tuple(h0.shape), h0.dtype) if isinstance(h0, Tensor) else type(h0).__name__
        raise ValueError(f"h0 must have the shape and dtype of h ({tuple(h.shape)}, {h.dtype}); it was {was}")
    return h0


# ---------------------------------------------------------------- first order

class EulerLayer(GraphLayer):
    r"""One forward Euler step of ``dH/dt = field(H)``.

    .. math:: H' = H + \varepsilon\, \mathrm{field}(H, S)

    Args:
        dim: feature width ``d``, kept by the step.
        epsilon: step size ε, finite and at least 0.
        activation: σ, for the fields that have one.

    Raises:
        TypeError, ValueError: as :class:`~gnnssm_lite.models.convolutions.GraphLayer`;
            ``epsilon`` is no finite number, or negative.
    """

    def __init__(self, dim: int, epsilon: float, activation: str | Activation | None = None) -> None:
        super().__init__(dim, dim, activation)
        self.epsilon = _number("epsilon", epsilon, low=0)

    def field(self, h: Tensor, *graph: Tensor) -> Tensor:
        """The right-hand side ``dH/dt``."""
        raise NotImplementedError

    def forward(self, h: Tensor, *graph: Tensor) -> Tensor:
        return h + self.epsilon * self.field(h, *graph)

    def extra_repr(self) -> str:
        return f"{self.in_dim}, epsilon={self.epsilon:g}"


class DGC(EulerLayer):
    r"""Decoupled graph convolution: an Euler step of the heat equation on the graph.

    .. math:: H' = \Big(1 - \frac{T}{K}\Big) H + \frac{T}{K} S H

    ``K`` steps are ``((1 - T/K) I + (T/K) S)^K H``; as ``K`` grows they tend to the heat kernel, ``exp(-T (I - S)) H``.

    Args:
        dim: feature width.
        terminal_time: ``T``, at least 0.
        steps: ``K``; a network has ``K`` of these layers.

    Shapes:
        ``h``: ``(..., n, d)``; ``S``: ``(..., n, n)``, usually ``Â``; returns ``(..., n, d)``.

    Raises:
        TypeError, ValueError: as :class:`EulerLayer`; ``terminal_time`` negative or not finite, ``steps`` no integer
            or below 1.

    Left out: the linear classifier after the last step (the model's only weights). The public code of the graph-property
    benchmark has another layer under this name: steps ``H - ε S H`` with self-loops of weight 2, and tanh after the last.

    Source: Wang et al. (2021), "Dissecting the diffusion process in linear graph convolutional networks".
    """

    def __init__(self, dim: int, terminal_time: float = 1.0, steps: int = 10) -> None:
        super().__init__(dim, _number("terminal_time", terminal_time, low=0) / check_int("steps", steps, 1))
        self.register_buffer("eye", torch.eye(dim), persistent=False)  # so that it moves with the layer

    def field(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        return S @ h - h

    def kronecker_terms(self) -> dict[int, Tensor]:
        """``{0: (1 - T/K) I, 1: (T/K) I}``."""
        return {0: (1 - self.epsilon) * self.eye, 1: self.epsilon * self.eye}


class GRAND(EulerLayer):
    r"""Graph neural diffusion, linear form (GRAND-l): an Euler step of diffusion with attention fixed by ``H^{(0)}``.

    .. math::
        H' = H + \varepsilon (\mathrm{Att}(H_0) - I) H, \qquad
        \mathrm{Att}(X)_{uv} = \operatorname{softmax}_{v \in N(u) \cup \{u\}}
                              \frac{(W_Q x_u)^\top (W_K x_v)}{\sqrt{d_k}}

    ``Att`` is row-stochastic, so constant features stay as they are. Share one instance between all layers: the
    model has one attention for its whole run.

    Args:
        dim: feature width.
        epsilon: step size; with ``ε = 1`` the step is averaging by ``Att``.
        heads: attention heads, whose matrices are averaged; they must divide ``dim``.
        nonlinear: attention of the features as they are at each step (GRAND-nl) in place of ``H_0``.

    Shapes:
        ``h``, ``h0``: ``(..., n, d)`` (``h0`` None: ``h`` itself, which makes the step nonlinear, GRAND-nl; or what
        :meth:`prepare` made of it);
        ``S``: ``(..., n, n)``, only its pattern counts; returns ``(..., n, d)``.

    Raises:
        TypeError, ValueError: as :class:`EulerLayer`; heads that do not divide ``dim``; ``h0`` unlike ``h``.

    Left out: adaptive and implicit solvers, the trained time scale and source term, biases of query and key, rewiring.
    The public code of the graph-property benchmark has a Runge-Kutta solver, the attention of ``GATConv`` at each step,
    a trained time scale, and tanh after the last step.

    Source: Chamberlain et al. (2021), "GRAND: graph neural diffusion".
    """

    operator = "adjacency"

    def __init__(self, dim: int, epsilon: float = 0.1, heads: int = 1, nonlinear: bool = False) -> None:
        super().__init__(dim, epsilon)
        self.needs_initial = not nonlinear
        self.heads = check_int("heads", heads, 1)
        if dim % heads:
            raise ValueError(f"heads must divide dim = {dim}; it was {heads}")
        self.query, self.key = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)

    def _projections(self, h0: Tensor) -> tuple[Tensor, Tensor]:
        shape = (self.heads, -1)
        query, key = self.query(h0).unflatten(-1, shape), self.key(h0).unflatten(-1, shape)
        return query / math.sqrt(query.shape[-1]), key                   # (..., n, heads, d_k)

    def _edge_attention(self, h0: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        """Closed edges ``(2, E)`` and their attention ``(E,)``."""
        edges = _closed_edges(S)
        query, key = self._projections(h0)
        score = (query[edges[0]] * key[edges[1]]).sum(-1)                # (E, heads)
        return edges, segment_softmax(score, edges[0], num_nodes=S.shape[0]).mean(-1)

    def attention(self, h0: Tensor, S: Tensor) -> Tensor:
        """``Att(H_0)`` as a dense matrix ``(..., n, n)``, its rows summing to 1."""
        self.check(h0, S)
        if S.layout != torch.strided:
            edges, alpha = self._edge_attention(h0, S)
            return alpha.new_zeros(S.shape).index_put((edges[0], edges[1]), alpha)
        query, key = self._projections(h0)
        score = torch.einsum("...uhd,...vhd->...huv", query, key) + _closed_mask(S).unsqueeze(-3)
        return score.softmax(-1).mean(-3)

    def prepare(self, h0: Tensor, S: Tensor) -> Callable[[Tensor], Tensor]:
        """``H -> Att(H_0) H``, to be given to the layer in place of ``h0``: a network computes it once for all steps."""
        if S.layout == torch.strided:
            attention = self.attention(h0, S)
            return lambda h: attention @ h
        self.check(h0, S)
        (u, v), alpha = self._edge_attention(h0, S)
        return lambda h: torch.zeros_like(h).index_add(0, u, alpha.unsqueeze(-1) * h[v])

    def field(self, h: Tensor, S: Tensor, h0: Tensor | Callable[[Tensor], Tensor] | None = None) -> Tensor:
        self.check(h, S)
        average = h0 if callable(h0) else self.prepare(_check_initial(h, h0), S)
        return average(h) - h


class ADGN(EulerLayer):
    r"""Anti-symmetric deep graph network.

    .. math:: H' = H + \varepsilon\, \sigma\big(H (W - W^\top - \gamma I)^\top + \Phi(H, S) + \mathbf 1 b^\top\big)

    For one node and without ``Φ`` the Jacobian of the field is ``diag(σ') (W - Wᵀ - γI)``: at ``γ = 0`` its eigenvalues
    are imaginary whenever ``σ' > 0``. The Euler step has ``|1 + iεμ| = √(1 + ε²μ²)``, slightly above 1, which a small
    ``γ > 0`` offsets. ``Φ`` is not antisymmetric, so the Jacobian over the whole graph has real parts of its own
    (:class:`SWAN` repairs that).

    Args:
        dim: feature width.
        epsilon: step size ε. gamma: damping γ (any sign; the paper takes it positive and small).
        activation: σ, monotone.
        coupling: ``Φ``, any layer of width ``dim``; a linear :class:`~gnnssm_lite.models.convolutions.GCN` if ``None``.
        bias: whether there is ``b``.
        operator: of that linear GCN: ``"normalized"``, or ``"adjacency"`` for plain sums over the neighbours.

    Shapes:
        ``h``: ``(..., n, d)``; ``S``: what the coupling asks for, ``Â`` by default; returns ``(..., n, d)``.

    Raises:
        TypeError, ValueError: as :class:`EulerLayer`; ``gamma`` no finite number; an unknown operator; a coupling that
            takes no operator.

    Left out: nothing of the layer; torch-geometric's ``AntiSymmetricConv`` gives the same numbers.

    Source: Gravina et al. (2023), "Anti-symmetric DGN: a stable architecture for deep graph networks".
    """

    def __init__(self, dim: int, epsilon: float = 0.1, gamma: float = 0.1, activation: str | Activation | None = "tanh",
                 coupling: GraphLayer | None = None, bias: bool = False, operator: str = "normalized") -> None:
        super().__init__(dim, epsilon, activation)
        self.gamma = _number("gamma", gamma)
        self.W = _weight(dim)
        if coupling is None:
            coupling = GCN(dim, dim, activation=None, operator=operator)
        self.coupling = _check_operator_coupling(coupling)
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    @property
    def operator(self) -> str:
        """The operator that the coupling asks for."""
        return getattr(self.coupling, "operator", "normalized")

    def state_weight(self) -> Tensor:
        """``W - Wᵀ - γI``."""
        return self.W - self.W.T - self.gamma * torch.eye(self.in_dim, dtype=self.W.dtype, device=self.W.device)

    def field(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        out = h @ self.state_weight().T + self.coupling(h, S)
        return self.activation(out if self.bias is None else out + self.bias)

    def kronecker_terms(self) -> dict[int, Tensor] | None:
        """``{0: I + ε (W - Wᵀ - γI)ᵀ, 1: ε V}`` when σ is the identity and ``Φ = S H V``."""
        from ..jacobian import kronecker_terms  # jacobian stands above models; asked only when it calls

        terms = kronecker_terms(self.coupling)
        if terms is None:
            return None
        terms = {power: self.epsilon * weight for power, weight in terms.items()}
        own = torch.eye(self.in_dim, dtype=self.W.dtype, device=self.W.device) + self.epsilon * self.state_weight().T
        terms[0] = terms[0] + own if 0 in terms else own
        return terms


class SWAN(EulerLayer):
    r"""Space-weight antisymmetric network: antisymmetry over features and over nodes.

    .. math::
        H' = H + \varepsilon\, \sigma\big(H (W - W^\top - \gamma I)^\top + \bar A H (V - V^\top)^\top
             + \beta\, T H (Z + Z^\top)^\top + \mathbf 1 b^\top\big), \qquad
        \bar A = D^{-1/2} A D^{-1/2}, \quad T = D^{-1} A - (D^{-1} A)^\top

    A symmetric operator meets an antisymmetric weight, an antisymmetric operator a symmetric weight, so the vectorised
    operator ``(W - Wᵀ) ⊗ I + (V - Vᵀ) ⊗ Ā + β (Z + Zᵀ) ⊗ T`` is antisymmetric over the whole graph: at ``γ = 0`` and
    with ``σ' > 0`` all ``n d`` eigenvalues of the field's Jacobian are imaginary. Neither ``Ā`` nor ``T`` is formed:
    ``A`` is applied once, to scaled features.

    Args:
        dim: feature width.
        epsilon: step size ε. gamma: damping γ. beta: weight β of the operator that is antisymmetric over nodes.
        activation: σ, monotone.
        bias: whether there is ``b``.

    Shapes:
        ``h``: ``(..., n, d)``; ``S = A``: ``(..., n, n)``, symmetric; returns ``(..., n, d)``. Isolated nodes see only
        their own features.

    Raises:
        TypeError, ValueError: as :class:`EulerLayer`; ``gamma`` or ``beta`` no finite number.

    Left out: learned edge weights (SWAN-learn) and the bounded variants. The public code keeps only triangles,
    ``triu(V) - triu(V)ᵀ`` and ``triu(Z) + triu(Z)ᵀ``: the same sets of matrices, parametrised by fewer numbers. Its
    ``T`` is another: the version that we read indexes edge weights by nodes there. This layer follows the paper.

    Source: Gravina et al. (2025), "On oversquashing in graph neural networks through the lens of dynamical systems".
    """

    operator = "adjacency"

    def __init__(self, dim: int, epsilon: float = 0.1, gamma: float = 0.1, beta: float = 0.1,
                 activation: str | Activation | None = "tanh", bias: bool = False) -> None:
        super().__init__(dim, epsilon, activation)
        self.gamma, self.beta = _number("gamma", gamma), _number("beta", beta)
        self.W, self.V, self.Z = _weight(dim), _weight(dim), _weight(dim)
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def preactivation(self, h: Tensor, S: Tensor) -> Tensor:
        """What σ is applied to: linear in ``h`` up to the bias, antisymmetric at ``γ = 0``."""
        self.check(h, S)
        degree = S @ h.new_ones(h.shape[-2], 1)                          # (..., n, 1)
        inverse = torch.where(degree > 0, 1 / degree, torch.zeros_like(degree))
        root, z = inverse.sqrt(), h @ (self.beta * (self.Z + self.Z.T))
        sums = S @ torch.cat([root * (h @ (self.V.T - self.V)), z, inverse * z], -1)
        local, row, column = sums.chunk(3, -1)
        own = h @ (self.W.T - self.W - self.gamma * torch.eye(self.in_dim, dtype=h.dtype, device=h.device))
        out = torch.addcmul(torch.addcmul(own - column, root, local), inverse, row)
        return out if self.bias is None else out + self.bias

    def field(self, h: Tensor, S: Tensor) -> Tensor:
        return self.activation(self.preactivation(h, S))


# ---------------------------------------------------------------- initial residual

class GCNII(GraphLayer):
    r"""Graph convolution with initial residual and identity mapping.

    .. math::
        H' = \sigma\Big(\big((1 - \alpha) S H + \alpha H_0\big) \big((1 - \beta_k) I + \beta_k W\big)\Big), \qquad
        \beta_k = \log(\theta / k + 1)

    With weights that are not shared (the paper's GCNII*), ``S H`` and ``H_0`` have a ``W`` each.

    Args:
        dim: feature width.
        alpha: share α of the initial features, in ``[0, 1]``.
        theta: θ, at least 0; ``None`` for ``β = 1``. layer: ``k``, counted from 1.
        shared_weights: one ``W`` for both parts, or two.
        activation: σ.

    Shapes:
        ``h``, ``h0``: ``(..., n, d)`` (``h0`` None: ``h`` itself); ``S``: ``(..., n, n)``, usually ``Â``; returns
        ``(..., n, d)``.

    Raises:
        TypeError, ValueError: as :class:`~gnnssm_lite.models.convolutions.GraphLayer`;
            ``alpha`` outside ``[0, 1]``, ``theta`` negative, ``layer`` below 1; ``h0`` unlike ``h``.

    Left out: dropout and the network's first and last linear layer. torch-geometric's ``GCN2Conv`` gives the same
    numbers before σ.

    Source: Chen et al. (2020), "Simple and deep graph convolutional networks".
    """

    needs_initial = True

    def __init__(self, dim: int, alpha: float = 0.1, theta: float | None = 0.5, layer: int = 1,
                 shared_weights: bool = True, activation: str | Activation | None = "relu") -> None:
        super().__init__(dim, dim, activation)
        self.alpha = _number("alpha", alpha, 0, 1)
        layer = check_int("layer", layer, 1)
        self.beta = 1.0 if theta is None else math.log(_number("theta", theta, low=0) / layer + 1)
        self.weight = nn.Parameter(torch.empty(dim, dim))
        self.initial_weight = None if shared_weights else nn.Parameter(torch.empty(dim, dim))
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)

    def _near_identity(self, x: Tensor, weight: Tensor) -> Tensor:
        return (1 - self.beta) * x + self.beta * (x @ weight)

    def forward(self, h: Tensor, S: Tensor, h0: Tensor | None = None) -> Tensor:
        self.check(h, S)
        smooth, initial = (1 - self.alpha) * (S @ h), self.alpha * _check_initial(h, h0)
        if self.initial_weight is None:
            return self.activation(self._near_identity(smooth + initial, self.weight))
        return self.activation(self._near_identity(smooth, self.weight)
                               + self._near_identity(initial, self.initial_weight))


# ---------------------------------------------------------------- second order

class SecondOrderLayer(GraphLayer):
    """Base of layers whose state is a pair of ``(..., n, d)`` matrices side by side: width ``2 d``.

    ``in_dim`` and ``out_dim`` are the width of the state; ``dim`` is that of the features.

    Raises:
        TypeError, ValueError: as :class:`~gnnssm_lite.models.convolutions.GraphLayer`;
            ``epsilon`` is no finite number, or negative.
    """

    def __init__(self, dim: int, epsilon: float, activation: str | Activation | None) -> None:
        self_dim = check_int("dim", dim, 1)
        super().__init__(2 * self_dim, 2 * self_dim, activation)
        self.dim, self.epsilon = self_dim, _number("epsilon", epsilon, low=0)

    def lift(self, h: Tensor) -> Tensor:
        """``[h | h]``: both halves start at the features, as in the models' public code."""
        return torch.cat([h, h], -1)

    def readout(self, state: Tensor) -> Tensor:
        """The first half of the state."""
        return state[..., :self.dim]

    def extra_repr(self) -> str:
        return f"{self.dim}, epsilon={self.epsilon:g}"


class GraphCON(SecondOrderLayer):
    r"""Graph-coupled oscillator network.

    .. math::
        Y' = Y + \varepsilon\big(\sigma(F(X, S)) - \gamma X - \alpha Y\big), \qquad X' = X + \varepsilon Y'

    A step of ``X'' = σ(F(X)) - γX - αX'`` in which ``X`` already uses the new ``Y``. Both updates are shears, so
    ``det J = (1 - εα)^{n d}`` for any ``F`` and σ: without damping the step keeps the volume of the state space. At
    ``ε = α = γ = 1`` it is ``X' = σ(F(X))``, the plain layer.

    Args:
        dim: width ``d`` of the features; the state ``[X | Y]`` has ``2 d``.
        epsilon: step size ε. alpha: damping α. gamma: stiffness γ.
        activation: σ.
        coupling: ``F``, any layer of width ``dim``; a linear :class:`~gnnssm_lite.models.convolutions.GCN` if ``None``.

    Shapes:
        ``h = [X | Y]``: ``(..., n, 2 d)``; ``S``: what the coupling asks for; returns ``(..., n, 2 d)``. ``readout`` is
        ``X``.

    Raises:
        TypeError, ValueError: as :class:`SecondOrderLayer`; ``alpha`` or ``gamma`` no finite number; a coupling that
            takes no operator.

    Left out: dropout, biases, and the residual linear maps that the public code adds to ``F`` (and a ReLU after its
    encoder) on some tasks.

    Source: Rusch et al. (2022), "Graph-coupled oscillator networks".
    """

    def __init__(self, dim: int, epsilon: float = 1.0, alpha: float = 1.0, gamma: float = 1.0,
                 activation: str | Activation | None = "relu", coupling: GraphLayer | None = None) -> None:
        super().__init__(dim, epsilon, activation)
        self.alpha, self.gamma = _number("alpha", alpha), _number("gamma", gamma)
        self.coupling = GCN(dim, dim, activation=None) if coupling is None else _check_operator_coupling(coupling)

    @property
    def operator(self) -> str:
        """The operator that the coupling asks for."""
        return getattr(self.coupling, "operator", "normalized")

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        x, y = h.chunk(2, -1)
        y = y + self.epsilon * (self.activation(self.coupling(x, S)) - self.gamma * x - self.alpha * y)
        return torch.cat([x + self.epsilon * y, y], -1)


class PHDGN(SecondOrderLayer):
    r"""Port-Hamiltonian deep graph network: a symplectic Euler step of a Hamiltonian system on the graph.

    .. math::
        \mathcal H(q, p) = U(q) + K(p), \qquad
        U(q) = \sum_u \mathbf 1^\top \log\cosh\big((q W_q^\top + S q V_q^\top + b_q)_u\big)

    .. math::
        q' = q + \varepsilon \nabla K(p), \qquad
        p' = p - \varepsilon \nabla U(q') - \varepsilon \alpha\, \nabla K(p) \odot \delta
               + \varepsilon \beta \tanh(S q' F)

    ``K`` is of the same form in ``p``, with weights of its own; ``∇U(q) = t W_q + Sᵀ t V_q`` with ``t = tanh(...)``.
    Without damping (``α = 0``) and forcing (``β = 0``) the step is symplectic, ``Jᵀ Ω J = Ω``, hence ``det J = 1``, and
    ``𝓗`` stays within ``O(ε)`` of its first value for very long times.

    Args:
        dim: width ``d`` of the features; the state ``[q | p]`` has ``2 d``.
        epsilon: step size ε.
        damping: α at least 0; ``δ = relu(dissipation)`` is a trained vector that starts at ones.
        forcing: β; ``F`` is a trained matrix.
        bias: whether there are ``b_q``, ``b_p``.
        operator: the symmetric ``S`` that the layer asks for: ``"normalized"``, or ``"adjacency"`` for plain sums.

    Shapes:
        ``h = [q | p]``: ``(..., n, 2 d)``; ``S``: ``(..., n, n)``, symmetric (the step uses ``Sᵀ = S``); returns
        ``(..., n, 2 d)``. ``readout`` is ``q``.

    Raises:
        TypeError, ValueError: as :class:`SecondOrderLayer`; ``damping`` negative, ``forcing`` no finite number; an unknown
            operator.

    Left out: time as an input of the forcing, the other damping and forcing networks, and the half-steps that a
    Hamiltonian which mixes ``q`` and ``p`` would need. The public code stores the state as ``[p | q]``, may read out
    either half or both, and its forcing sums over ``A``.

    Source: Heilig et al. (2025), "Port-Hamiltonian architectural bias for long-range propagation in deep graph
    networks".
    """

    def __init__(self, dim: int, epsilon: float = 0.1, damping: float = 0.0, forcing: float = 0.0,
                 bias: bool = False, operator: str = "normalized") -> None:
        super().__init__(dim, epsilon, "tanh")
        self.operator = check_choice("operator", operator, ("normalized", "adjacency"))
        self.damping, self.forcing = _number("damping", damping, low=0), _number("forcing", forcing)
        self.W_q, self.V_q, self.W_p, self.V_p = (_weight(dim) for _ in range(4))
        self.b_q = nn.Parameter(torch.zeros(dim)) if bias else None
        self.b_p = nn.Parameter(torch.zeros(dim)) if bias else None
        self.dissipation = nn.Parameter(torch.ones(dim)) if damping else None
        self.F = _weight(dim) if forcing else None

    @staticmethod
    def _argument(x: Tensor, S: Tensor, W: Tensor, V: Tensor, b: Tensor | None) -> Tensor:
        z = x @ W.T + S @ (x @ V.T)
        return z if b is None else z + b

    def _gradient(self, x: Tensor, S: Tensor, W: Tensor, V: Tensor, b: Tensor | None) -> Tensor:
        t = torch.tanh(self._argument(x, S, W, V, b))
        return t @ W + S @ (t @ V)

    def hamiltonian(self, state: Tensor, S: Tensor) -> Tensor:
        """``𝓗(q, p)``, shape ``(...)``: one number a graph."""
        self.check(state, S)
        q, p = state.chunk(2, -1)
        z = torch.cat([self._argument(q, S, self.W_q, self.V_q, self.b_q),
                       self._argument(p, S, self.W_p, self.V_p, self.b_p)], -1).abs()
        log_cosh = z + nn.functional.softplus(-2 * z) - math.log(2)      # cosh itself overflows
        return log_cosh.sum((-2, -1))

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        q, p = h.chunk(2, -1)
        velocity = self._gradient(p, S, self.W_p, self.V_p, self.b_p)
        q = q + self.epsilon * velocity
        p = p - self.epsilon * self._gradient(q, S, self.W_q, self.V_q, self.b_q)
        if self.dissipation is not None:
            p = p - self.epsilon * self.damping * torch.relu(self.dissipation) * velocity
        if self.F is not None:
            p = p + self.epsilon * self.forcing * torch.tanh(S @ (q @ self.F))
        return torch.cat([q, p], -1)
