r"""Over-squashing: how much a node's features depend on another node's input, and bounds of it. Introduced in chapter 9.

The sensitivity of node ``v`` to node ``u`` is the block ``J_vu = ∂h_v^{(K)} / ∂h_u^{(0)}`` of the product Jacobian, a
matrix ``(d_K, d_0)``. It is computed by ``d_K`` vector-Jacobian products for all ``u`` at once. Three bounds of it stand
here, each at most the next in the norms ``l1`` and ``linf``; the last two are a *model term* times a *topology term*:

=============================  =======================================================================================
:func:`entrywise_bound`        the Jacobian of the network without signs: ``|W|``, ``|S|`` and the steepest slope of σ
:func:`walk_bound`             a norm of each weight matrix; covers GNN-SSM (Proposition 9.A)
:func:`sensitivity_bound`      the largest weight and the width (Theorem 5.1)
=============================  =======================================================================================

Put modules with dropout or batch norm into ``eval()`` first.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .checks import check_choice, check_edge_index, check_features, check_finite, check_floating, check_int, check_square
from .graphs import connected_components, laplacian, shortest_path_lengths, to_dense
from .jacobian import check_differentiable, compose, parts_of, warn_of_training
from .models.convolutions import GCN, Activation, GraphLayer, GraphSAGE
from .models.multihop import kGCN
from .models.networks import Residual
from .models.recurrence import GNNSSM
from .smoothing import LIPSCHITZ

Layer = Callable[..., Tensor]
Operator = Tensor | Sequence[Tensor]
BATCHED_ENTRIES = 2 ** 16  # of the output, over all rows that go back at once: beyond, batching costs memory and time


class MPNN(GraphLayer):
    r"""The message-passing layer that Theorem 5.1 is about (chapter 9).

    .. math:: H' = \sigma(c_r H W_r + c_a S H W_a)

    Args:
        in_dim, out_dim, activation: as :class:`~gnnssm_lite.models.convolutions.GCN`.
        c_r, c_a: non-negative weights of a node itself and of its neighbourhood; a sign belongs into ``W``.

    Shapes: as :class:`~gnnssm_lite.models.convolutions.GCN`. Source: Di Giovanni et al. (2023).
    """

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = "relu", c_r: float = 1.0,
                 c_a: float = 1.0) -> None:
        super().__init__(in_dim, out_dim, activation)
        self.c_r, self.c_a = _nonnegative("c_r", c_r), _nonnegative("c_a", c_a)
        self.root, self.neighbours = (nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_dim, out_dim))) for _ in range(2))

    def forward(self, h: Tensor, S: Tensor) -> Tensor:
        self.check(h, S)
        return self.activation(self.c_r * (h @ self.root) + self.c_a * (S @ (h @ self.neighbours)))

    def kronecker_terms(self) -> dict[int, Tensor]:
        """``{0: c_r W_r, 1: c_a W_a}``."""
        return {0: self.c_r * self.root, 1: self.c_a * self.neighbours}


def _nonnegative(name: str, value: float) -> float:
    value = float(value)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be finite and at least 0; it was {value}")
    return value


# ---------------------------------------------------------------- sensitivities

def _frobenius(J: Tensor) -> Tensor:
    # In float64: squares of float32 leave its range long before the entries do.
    return torch.linalg.vector_norm(J, dim=(-2, -1), dtype=torch.float64).to(J.dtype)


# Norms of a block J_vu, over the last two dimensions. The first three are induced by a norm of vectors.
NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda J: J.abs().sum(-2).amax(-1), "linf": lambda J: J.abs().sum(-1).amax(-1),
    "spectral": lambda J: torch.linalg.matrix_norm(J, 2), "fro": _frobenius,
    "max": lambda J: J.abs().amax((-2, -1)), "sum": lambda J: J.abs().sum((-2, -1)),
}
INDUCED = ("l1", "linf", "spectral")


def block_norm(blocks: Tensor, norm: str = "l1") -> Tensor:
    r"""A norm of each sensitivity block, ``(..., d_out, d_in) -> (...)``.

    ============  ==================================================================================================
    norm          of ``J_vu``
    ============  ==================================================================================================
    ``l1``        largest absolute column sum: the most that ``‖h_v‖₁`` moves for each unit of ``‖h_u‖₁``
    ``linf``      largest absolute row sum: the same for ``‖·‖_∞``
    ``spectral``  largest singular value: the same for ``‖·‖₂``
    ``fro``       root of the sum of squares
    ``max``       largest absolute entry
    ``sum``       sum of all absolute entries
    ============  ==================================================================================================

    Raises:
        TypeError, ValueError: no floating-point tensor of at least two dimensions; an unknown norm.
    """
    return NORMS[check_choice("norm", norm, tuple(NORMS))](check_features(blocks, "blocks"))


class _Pullback:
    """One forward pass of a model; then rows of its Jacobian, a target node at a time."""

    def __init__(self, model: Layer | Sequence[Layer], h: Tensor, graph: tuple) -> None:
        check_finite("h", check_features(h))
        if h.dim() != 2:
            raise ValueError(f"h must have shape (nodes, features), without a batch; its shape was {tuple(h.shape)}")
        if not callable(model) and not isinstance(model, (list, tuple)):
            raise TypeError(f"model must be callable as model(h, *graph) or a list of layers; it was {type(model).__name__}")
        self.h = h.detach().clone().requires_grad_(True)
        parts = model if isinstance(model, (list, tuple)) else parts_of(model)
        model = compose([model] if parts is None else parts)
        warn_of_training(model)
        with torch.enable_grad():
            self.out = model(self.h, *graph)
            check_differentiable(model, self.h, self.out, graph)

    def node(self, name: str, value: object) -> int:
        """``value`` if it is a node."""
        if check_int(name, value, 0) >= len(self.h):
            raise ValueError(f"{name} must be a node from 0 to {len(self.h) - 1}; it was {value}")
        return int(value)

    def blocks(self, target: int) -> Tensor:
        """``J_vu`` for ``v = target`` and all ``u``, ``(n, d_out, d_in)``, by ``d_out`` vector-Jacobian products."""
        n, d = self.out.shape
        if not self.out.requires_grad:  # a constant
            return self.h.new_zeros(n, d, self.h.shape[1])
        chunk = max(1, BATCHED_ENTRIES // (n * d))
        rows = [self._rows(target, range(d)[start:start + chunk]) for start in range(0, d, chunk)]
        return torch.cat(rows).transpose(0, 1)

    def _rows(self, target: int, features: range) -> Tensor:
        u = self.out.new_zeros(len(features), *self.out.shape)
        u[range(len(features)), target, features] = 1.0
        options = {"retain_graph": True, "materialize_grads": True}
        if len(features) > 1:
            try:
                return torch.autograd.grad(self.out, self.h, u, is_grads_batched=True, **options)[0]
            except (RuntimeError, NotImplementedError):  # an operation without a batching rule, such as a sparse product
                pass
        return torch.stack([torch.autograd.grad(self.out, self.h, row, **options)[0] for row in u])


@torch.inference_mode(False)
def sensitivity(model: Layer | Sequence[Layer], h: Tensor, *graph: object, source: int, target: int) -> Tensor:
    r"""Sensitivity of one node to another: a block of the product Jacobian (chapter 9).

    .. math:: J_{vu} = \partial h_v^{(K)} / \partial h_u^{(0)}, \qquad v = \text{target},\ u = \text{source}

    Args:
        model: any callable ``model(h, *graph)``, or a list of layers on the same graph.
        h: ``(n, d_in)``, the input at which to differentiate; float64 for validating theory.
        graph: what the model takes beside ``h``.
        source, target: nodes.

    Shapes:
        returns ``(d_out, d_in)``: row ``i`` is the gradient of feature ``i`` of the target.

    Raises:
        TypeError: ``h`` is no floating-point tensor, ``model`` no model, a node no integer.
        ValueError: ``h`` has a batch dimension or NaN, a node is out of range, the output is no matrix over the nodes, or
            a layer cuts gradients (``no_grad``, ``detach``).

    Source: Topping et al. (2022), Di Giovanni et al. (2023).
    """
    pullback = _Pullback(model, h, graph)
    source, target = pullback.node("source", source), pullback.node("target", target)
    return pullback.blocks(target)[source].detach().clone()


@torch.inference_mode(False)
def sensitivities(model: Layer | Sequence[Layer], h: Tensor, *graph: object, targets: Sequence[int] | None = None,
                  norm: str = "l1", progress: bool = False) -> Tensor:
    r"""Norms ``‖J_vu‖`` of the sensitivity of some targets to every node, from one forward pass.

    The cost is ``d_out`` vector-Jacobian products for each target: on a graph of thousands of nodes name a few targets.

    Args:
        model, h, graph: as :func:`sensitivity`.
        targets: nodes ``v``; all of them if ``None``. norm: see :func:`block_norm`. progress: show a progress bar.

    Shapes:
        returns ``(number of targets, n)``; with ``targets=None`` entry ``[v, u]`` belongs to target ``v``, source ``u``.

    Raises:
        TypeError, ValueError: as :func:`sensitivity` and :func:`block_norm`.
    """
    check_choice("norm", norm, tuple(NORMS))
    pullback = _Pullback(model, h, graph)
    if targets is not None and (not isinstance(targets, Iterable) or isinstance(targets, Tensor) and not targets.dim()):
        raise TypeError(f"targets must be a list of nodes, such as [{targets}]; it was {targets!r}")
    nodes = [pullback.node("targets", v) for v in (range(len(h)) if targets is None else targets)]
    if not nodes:
        return h.new_zeros(0, len(h))
    return torch.stack([block_norm(pullback.blocks(v), norm)
                        for v in tqdm(nodes, desc="sensitivities", disable=not progress)]).detach()


def sensitivity_to_target(model: Layer | Sequence[Layer], h: Tensor, *graph: object, target: int,
                          norm: str = "l1") -> Tensor:
    """Norms ``‖J_vu‖`` of one target's sensitivity to every node, ``(n,)``, by ``d_out`` vector-Jacobian products.

    Args, Raises: as :func:`sensitivities`, with one ``target``.
    """
    return sensitivities(model, h, *graph, targets=[target], norm=norm)[0]


def sensitivity_by_distance(model: Layer | Sequence[Layer], h: Tensor, *graph: object, edge_index: Tensor,
                            targets: Sequence[int] | int | None = None, norm: str = "l1", seed: int = 0,
                            progress: bool = False) -> pd.DataFrame:
    """Sensitivities averaged over the pairs of nodes at each hop distance.

    Args:
        model, h, graph: as :func:`sensitivity`.
        edge_index: ``(2, E)``, the undirected graph that measures distance, whatever graph the model sees.
        targets: nodes; or how many to draw, without repetition; all if ``None``.
        norm: see :func:`block_norm`. seed: of the draw of targets. progress: show a progress bar.

    Returns:
        a row a distance, ascending, with ``distance`` (``inf`` for pairs without a path), ``mean``, ``std``, ``min`` and
        ``max`` of ``‖J_vu‖`` over its pairs, and their ``count``.

    Raises:
        TypeError, ValueError: as :func:`sensitivity`; a graph that does not fit ``h``; more targets than nodes.
    """
    check_features(h)
    nodes = _draw_targets(targets, h.shape[-2], seed)
    distance = shortest_path_lengths(edge_index, h.shape[-2], nodes).cpu().numpy()
    values = sensitivities(model, h, *graph, targets=nodes, norm=norm, progress=progress).double().cpu().numpy()
    return by_distance(distance, values)


def by_distance(distance: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """Mean, standard deviation, extremes and count of ``values`` at each of the distances, arrays of one shape."""
    frame = pd.DataFrame({"distance": np.ravel(distance), "value": np.ravel(values)})
    table = frame.groupby("distance")["value"].agg(["mean", "min", "max", "count"]).reset_index()
    table.insert(2, "std", frame.groupby("distance")["value"].std(ddof=0).to_numpy())
    return table


def _draw_targets(targets: Sequence[int] | int | None, num_nodes: int, seed: int) -> list[int]:
    if targets is None:
        return list(range(num_nodes))
    if not isinstance(targets, (int, np.integer)):
        return [check_int("targets", v, 0) for v in targets]
    count = check_int("targets", targets, 1)
    if count > num_nodes:
        raise ValueError(f"targets must be at most {num_nodes}, the number of nodes; it was {count}")
    return sorted(np.random.default_rng(check_int("seed", seed, 0)).permutation(num_nodes)[:count].tolist())


# ---------------------------------------------------------------- Theorem 5.1

@dataclass(frozen=True)
class Bound:
    """A bound of all ``‖J_vu‖`` as a product of two terms.

    Attributes:
        model_term: what weights, width and activation contribute; the same for every pair of nodes.
        topology_term: ``(n, n)``, entry ``[v, u]`` for target ``v`` and source ``u``.
    """

    model_term: float
    topology_term: Tensor

    @property
    def values(self) -> Tensor:
        """``(n, n)``, the bound: model term × topology term; 0 for nodes out of reach, whatever the model."""
        product = self.model_term * self.topology_term
        return torch.where(self.topology_term == 0, torch.zeros_like(product), product)


def topology_term(S: Tensor, depth: int, c_r: float = 0.0, c_a: float = 1.0) -> Tensor:
    r"""The part of Theorem 5.1 that depends on the graph.

    .. math:: \big((c_r I + c_a |S|)^K\big)_{vu}

    It is 0 for nodes more than ``K`` hops apart. The theorem's ``S`` is ``c_r I + c_a Â``; here ``S`` is the operator that
    the layers apply. Absolute values: the bound needs them where an operator has negative entries.

    Args:
        S: ``(n, n)``, dense or sparse. depth: ``K``, at least 0. c_r, c_a: non-negative.

    Shapes:
        returns ``(n, n)``, float64.

    Raises:
        TypeError, ValueError: ``S`` no finite square floating-point matrix, a negative depth or weight.
    """
    depth, c_r, c_a = check_int("depth", depth, 0), _nonnegative("c_r", c_r), _nonnegative("c_a", c_a)
    S = _magnitude(S)
    return torch.linalg.matrix_power(c_r * torch.eye(len(S), dtype=S.dtype, device=S.device) + c_a * S, depth)


def _magnitude(S: Tensor) -> Tensor:
    return check_square("S", to_dense(check_floating("S", S)).detach()).double().abs()


def model_term(w: float, width: int, depth: int, lipschitz: float = 1.0) -> float:
    r"""The part of Theorem 5.1 that depends on the model, ``(c_σ w d)^K``; infinite where float64 ends.

    Args:
        w: largest absolute weight. width: ``d``. depth: ``K``, at least 0. lipschitz: ``c_σ``.

    Raises:
        TypeError, ValueError: ``w`` or ``lipschitz`` negative or no number; ``width`` below 1, ``depth`` negative.
    """
    base = _nonnegative("lipschitz", lipschitz) * _nonnegative("w", w) * check_int("width", width, 1)
    return float(torch.tensor(base, dtype=torch.float64) ** check_int("depth", depth, 0))


def sensitivity_bound(layers: Sequence[Layer], S: Tensor, norm: str = "l1", lipschitz: float | None = None) -> Bound:
    r"""The sensitivity bound of section 5 of the paper (Theorem 5.1, Eq. 15), for all pairs of nodes.

    .. math::
        \Big\|\frac{\partial h_v^{(K)}}{\partial h_u^{(0)}}\Big\|_1 \le
        \underbrace{(c_\sigma w d)^K}_{\text{model}}\ \underbrace{(S^K)_{vu}}_{\text{topology}}, \qquad
        S = c_r I + c_a \hat A

    *Proof.* One layer has ``J_vu = diag(σ'(z_v)) (c_r δ_vu W_rᵀ + c_a Â_vu W_aᵀ)``, so that every entry is at most
    ``c_σ w S_vu``. A product of ``K`` matrices sums over ``d`` inner indices ``K - 1`` times and over walks from ``u`` to
    ``v``. Each *entry* of the product is therefore at most ``(c_σ w)^K d^{K-1} (S^K)_vu``: one factor ``d`` fewer than in
    the theorem. The last ``d`` comes from the norm, which the paper does not name:

    ============  ========================  ==========================================
    norm          power of ``d``            the theorem as stated
    ============  ========================  ==========================================
    ``max``       ``K - 1``                 holds, a factor ``d`` loose
    ``l1``        ``K``                     holds, and is attained
    ``linf``      ``K``                     holds, and is attained
    ``spectral``  ``K``                     holds, and is attained
    ``fro``       ``K``                     holds, and is attained
    ``sum``       ``K + 1``                 fails by a factor ``d``
    ============  ========================  ==========================================

    All are attained at once, for every pair of nodes, by linear layers whose weights all equal one ``w > 0``. Read ``w`` as
    the largest *absolute* entry over all weight matrices: for the largest entry the theorem is false. Where widths
    differ, ``d`` is the largest, that of input and output included.

    Args:
        layers: :class:`MPNN`, :class:`~gnnssm_lite.models.convolutions.GCN` (``c_r = 0``, ``c_a = 1``) or
            :class:`~gnnssm_lite.models.convolutions.GraphSAGE` (``c_r = c_a = 1``), all with the same ``c_r`` and ``c_a``.
        S: ``(n, n)``, the operator that the layers apply.
        norm: of the blocks, see :func:`block_norm`; sets the power of ``d``.
        lipschitz: ``c_σ``, needed when a layer's σ is not one of the named activations.

    Raises:
        TypeError: a layer of another kind. ValueError: no layers, widths that do not fit, different ``c_r`` or ``c_a``, an
            activation whose Lipschitz constant is not known, an unknown norm.

    Source: Di Giovanni et al. (2023), Theorem 3.2.
    """
    check_choice("norm", norm, tuple(NORMS))
    constants = theorem_constants(layers, lipschitz)
    K, d = constants.depth, constants.width
    term = model_term(constants.w, d, K, constants.lipschitz) * {"max": 1 / d, "sum": d}.get(norm, 1)
    return Bound(term, topology_term(S, K, constants.c_r, constants.c_a))


@dataclass(frozen=True)
class TheoremConstants:
    """The letters of Theorem 5.1, read off a stack of layers: ``c_σ``, ``w``, ``d``, ``K``, ``c_r``, ``c_a``."""

    lipschitz: float
    w: float
    width: int
    depth: int
    c_r: float
    c_a: float


def theorem_constants(layers: Sequence[Layer], lipschitz: float | None = None) -> TheoremConstants:
    """The constants of Theorem 5.1 for a stack. Args, Raises: as :func:`sensitivity_bound`."""
    layers = _check_layers(layers)
    weights, mixing, widths = [], set(), []
    for layer in layers:
        matrices, c = _theorem_weights(layer)
        weights += matrices
        mixing.add(c)
        widths.append(matrices[0].shape)
    _check_widths(widths)
    if len(mixing) > 1:
        raise ValueError(f"layers must share one c_r and one c_a; their pairs (c_r, c_a) were {sorted(mixing)} "
                         "(walk_bound takes any)")
    (c_r, c_a), = mixing
    slope = max(_slope(layer, lipschitz) for layer in layers)
    width = max(size for W in weights for size in W.shape)
    return TheoremConstants(slope, max(float(W.detach().abs().max()) for W in weights), width, len(layers), c_r, c_a)


def _theorem_weights(layer: Layer) -> tuple[list[Tensor], tuple[float, float]]:
    if type(layer) is MPNN:
        return [layer.root, layer.neighbours], (layer.c_r, layer.c_a)
    if type(layer) is GCN:
        return [layer.weight], (0.0, 1.0)
    if type(layer) is GraphSAGE:
        return [layer.root.weight.T, layer.neighbours.weight.T], (1.0, 1.0)
    raise TypeError(f"layers must be MPNN, GCN or GraphSAGE for Theorem 5.1 (walk_bound takes more); one was "
                    f"{type(layer).__name__}")


def _check_layers(layers: Sequence[Layer]) -> list[Layer]:
    if isinstance(layers, nn.Module) and not isinstance(layers, (nn.ModuleList, nn.Sequential)):
        raise TypeError(f"layers must be a list of layers; it was one {type(layers).__name__}")
    layers = list(layers)
    if not layers:
        raise ValueError("layers must hold at least one layer; it was empty")
    return layers


def _check_widths(widths: Sequence[tuple[int, int]]) -> None:
    """Refuse layers ``(d_in, d_out)`` of which one does not take what the one before returns."""
    for k, ((_, before), (after, _)) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
        if before != after:
            raise ValueError(f"layers must fit each other: layer {k} returns width {before}, layer {k + 1} takes {after}")


def _slope(layer: Layer, lipschitz: float | None) -> float:
    if lipschitz is not None:
        return _nonnegative("lipschitz", lipschitz)
    known = LIPSCHITZ.get(layer.activation)
    if known is None:
        raise ValueError(f"lipschitz must be given for the activation {layer.activation!r}")
    return known


# ---------------------------------------------------------------- sharper bounds, GNN-SSM included

@dataclass(frozen=True)
class _Form:
    """A layer as ``H' = H Λ + σ(H R + S H N) B``; a matrix that is ``None`` is absent (``B``: the identity)."""

    S: Tensor | None
    slope: float = 1.0
    Lambda: Tensor | None = None
    root: Tensor | None = None
    neighbours: Tensor | None = None
    B: Tensor | None = None

    def widths(self) -> tuple[int, int]:
        """``(d_in, d_out)``."""
        first = next(M for M in (self.Lambda, self.root, self.neighbours) if M is not None)
        last = next(M for M in (self.Lambda, self.B, self.root, self.neighbours) if M is not None)
        return first.shape[0], last.shape[1]

    def coefficients(self, norm: str) -> tuple[float, float]:
        """``(a, b)`` with ``‖J_vu‖ ≤ a δ_vu + b |S_vu|``."""
        out = self.slope * _weight_norm(self.B, norm, missing=1.0)
        return (_weight_norm(self.Lambda, norm) + out * _weight_norm(self.root, norm),
                out * _weight_norm(self.neighbours, norm))

    def pull(self, rows: Tensor) -> Tensor:
        """``rows`` ``(m, n, d_out)`` times the matrix that bounds the layer's Jacobian entry by entry."""
        inner = self.slope * _times(rows, self.B)
        total = rows.new_zeros(*rows.shape[:-1], self.widths()[0])
        if self.Lambda is not None:
            total = total + _times(rows, self.Lambda)
        if self.root is not None:
            total = total + _times(inner, self.root)
        return total if self.neighbours is None else total + self.S.T @ _times(inner, self.neighbours)


def _weight_norm(W: Tensor | None, norm: str, missing: float = 0.0) -> float:
    """The norm of ``Wᵀ``, as which a weight stands in the Jacobian."""
    return missing if W is None else float(NORMS[norm](W.T))


def _times(rows: Tensor, W: Tensor | None) -> Tensor:
    return rows if W is None else rows @ W.abs().T


def _form(layer: Layer, S: Operator, lipschitz: float | None) -> _Form:
    if type(layer) is GNNSSM:
        inner = _Form(None) if layer.coupling is None else _plain_form(layer.coupling, S, lipschitz)
        return replace(inner, Lambda=_matrix(layer.Lambda), B=None if layer.B is None else _matrix(layer.B))
    if type(layer) is Residual:
        inner = _plain_form(layer.layer, S, lipschitz)
        return replace(inner, Lambda=torch.eye(inner.widths()[0], dtype=torch.float64, device=inner.neighbours.device))
    return _plain_form(layer, S, lipschitz)


def _plain_form(layer: Layer, S: Operator, lipschitz: float | None) -> _Form:
    if type(layer) is kGCN:
        if layer.needs_initial:
            raise ValueError("source of a kGCN must be 'state' for a bound of one layer after the other; it was 'input'")
        return _Form(_shell(layer, S), _slope(layer, lipschitz), neighbours=_matrix(layer.weight))
    if type(layer) not in (MPNN, GCN, GraphSAGE):
        raise TypeError("layers must be MPNN, GCN, GraphSAGE or kGCN, or a GNNSSM or Residual around one; one was "
                        f"{type(layer).__name__}")
    terms = layer.kronecker_terms()
    return _Form(_magnitude(S), _slope(layer, lipschitz), root=_matrix(terms[0]) if 0 in terms else None,
                 neighbours=_matrix(terms[1]))


def _shell(layer: kGCN, shells: Operator) -> Tensor:
    if isinstance(shells, Tensor) or not isinstance(shells, Sequence) or not shells:
        raise TypeError(f"S must be a list of operators, one a distance, for kGCN; it was {type(shells).__name__}")
    k = min(layer.hop, len(shells)) - 1
    S = _magnitude(shells[k])
    if layer.hop <= len(shells):
        return S
    return torch.eye(len(S), dtype=S.dtype, device=S.device) if layer.shell == "normalized" else torch.zeros_like(S)


def _matrix(W: Tensor) -> Tensor:
    return W.detach().double()


def _forms(layers: Sequence[Layer], S: Operator, lipschitz: float | None) -> list[_Form]:
    forms = [_form(layer, S, lipschitz) for layer in _check_layers(layers)]
    _check_widths([form.widths() for form in forms])
    return forms


def walk_bound(layers: Sequence[Layer], S: Operator, norm: str = "spectral", lipschitz: float | None = None) -> Bound:
    r"""A bound by norms of the weight matrices that covers GNN-SSM (Proposition 9.A), for all pairs of nodes.

    **Proposition 9.A.** Let ``H^{(k)} = H^{(k-1)} Λ + σ(S_k H^{(k-1)} W_k) B`` for ``k = 1 .. K``, ``c_σ`` the Lipschitz
    constant of σ, and ``‖·‖`` a matrix norm induced by a vector norm for which diagonal matrices have the norm of their
    largest entry (1, 2, ∞). With ``λ = ‖Λᵀ‖`` and ``b_k = c_σ ‖W_kᵀ‖ ‖Bᵀ‖``:

    .. math::
        \Big\|\frac{\partial h_v^{(K)}}{\partial h_u^{(0)}}\Big\| \le
        \Big(\prod_{k=K}^{1} (\lambda I + b_k |S_k|)\Big)_{vu} =
        \underbrace{\prod_k (\lambda + b_k)}_{\text{model}}\
        \underbrace{\Big(\prod_{k=K}^{1} (\alpha_k I + (1 - \alpha_k) |S_k|)\Big)_{vu}}_{\text{topology}}, \qquad
        \alpha_k = \frac{\lambda}{\lambda + b_k}

    *Proof.* One layer has ``J_vu = δ_vu Λᵀ + (S_k)_vu Bᵀ diag(σ'(z_v)) W_kᵀ``, of norm at most ``(λ I + b_k |S_k|)_vu``.
    A block of a product is a sum over walks of products of blocks; the norm is subadditive and submultiplicative.

    For one ``S`` and one ``b`` the bound is ``Σ_j C(K, j) λ^{K-j} b^j (|S|^j)_vu``: a message that needs ``r`` hops may
    take them in any ``r`` of the ``K`` layers and is remembered, with ``λ``, in the others. ``Λ = 0``, ``B = I`` is the
    GCN, for which only walks of exactly ``K`` steps are left and ``α = 0``. The bound is attained by linear layers with
    ``Λ = λI``, ``B = I`` and all weights equal. Take the spectral norm for an orthogonal ``Λ``: it is then ``eig(Λ)``,
    while ``‖Λ‖₁`` may be ``√d`` times that. The spectral radius of a non-normal ``Λ`` cannot stand in for its norm.

    A coupling with a root weight, ``σ(H R + S H N)``, adds ``c_σ ‖Rᵀ‖ ‖Bᵀ‖`` to ``λ``. For the layers of Theorem 5.1 this
    bound is never above the theorem's, because each of the three norms of a weight matrix is at most ``w d``.

    Args:
        layers: :class:`MPNN`, :class:`~gnnssm_lite.models.convolutions.GCN`,
            :class:`~gnnssm_lite.models.convolutions.GraphSAGE` or :class:`~gnnssm_lite.models.multihop.kGCN`, on its own, or
            inside a :class:`~gnnssm_lite.models.recurrence.GNNSSM` or :class:`~gnnssm_lite.models.networks.Residual`.
        S: ``(n, n)``, the operator that the layers apply; for ``kGCN`` the list of shell operators.
        norm: ``"l1"``, ``"linf"`` or ``"spectral"``.
        lipschitz: as :func:`sensitivity_bound`.

    Raises:
        TypeError: a layer of another kind. ValueError: as :func:`sensitivity_bound`.
    """
    check_choice("norm", norm, INDUCED)
    model, topology = torch.ones((), dtype=torch.float64), None
    for form in _forms(layers, S, lipschitz):
        a, b = form.coefficients(norm)
        step = _lazy_step(a, b, form.S, S)
        model = model * (a + b)
        topology = step if topology is None else step @ topology
    return Bound(float(model), topology)


def _lazy_step(a: float, b: float, own: Tensor | None, S: Operator) -> Tensor:
    """``α I + (1 - α) |S|``; the identity for a layer that is 0 or has no coupling."""
    shape = own if own is not None else _magnitude(S if isinstance(S, Tensor) else S[0])
    eye = torch.eye(len(shape), dtype=torch.float64, device=shape.device)
    return eye if own is None or a + b == 0 else (a * eye + b * own) / (a + b)


def entrywise_bound(layers: Sequence[Layer], S: Operator, target: int, lipschitz: float | None = None) -> Tensor:
    r"""A bound of every entry of every block ``J_vu`` for one target ``v``: the network without signs.

    .. math:: |J_{vu}| \le \Big(\prod_{k=K}^{1} M_k\Big)_{vu}, \qquad
              M_k = |\Lambda|^\top \otimes I + c_\sigma |B|^\top (|R_k|^\top \otimes I + |N_k|^\top \otimes |S_k|)

    Here node blocks are ``(M)_vu``, and the layers are ``H Λ + σ(H R + S H N) B`` as in :func:`walk_bound`. Attained by
    any linear layers with non-negative weights. Its norms 1 and ∞ are never above those of :func:`walk_bound`.

    Args:
        layers, S, lipschitz: as :func:`walk_bound`. target: the node ``v``.

    Shapes:
        returns ``(n, d_out, d_in)``, float64: entry ``[u]`` bounds ``|J_vu|``.

    Raises:
        TypeError, ValueError: as :func:`walk_bound`; a target out of range.
    """
    forms = _forms(layers, S, lipschitz)
    n = len(_magnitude(S if isinstance(S, Tensor) else S[0]))
    if check_int("target", target, 0) >= n:
        raise ValueError(f"target must be a node from 0 to {n - 1}; it was {target}")
    d = forms[-1].widths()[1]
    rows = torch.zeros(d, n, d, dtype=torch.float64, device=(S if isinstance(S, Tensor) else S[0]).device)
    rows[:, target] = torch.eye(d, dtype=rows.dtype, device=rows.device)
    for form in reversed(forms):
        rows = form.pull(rows)
    return rows.transpose(0, 1)


# ---------------------------------------------------------------- effective resistance

def effective_resistance(edge_index: Tensor, num_nodes: int) -> Tensor:
    r"""Effective resistance between all pairs of nodes, every edge a resistor of 1 ohm (chapter 9).

    .. math:: R_{uv} = L^+_{uu} + L^+_{vv} - 2 L^+_{uv}

    At most the hop distance, with equality where there is one path only; each further path lowers it.
    ``(L + 11ᵀ/n)^{-1}`` differs from ``L^+`` by a constant, which cancels, and is better conditioned to compute.

    Args:
        edge_index, num_nodes: an undirected graph; self-loops do not count.

    Shapes:
        returns ``(n, n)``, float64; ``inf`` between components.

    Raises:
        TypeError, ValueError: as :func:`gnnssm_lite.graphs.laplacian`.

    Source: Klein & Randić (1993).
    """
    L = laplacian(edge_index, num_nodes, dtype=torch.float64)
    R = torch.full_like(L, float("inf"))
    for nodes in connected_components(edge_index, num_nodes):
        G = torch.linalg.inv(L[nodes[:, None], nodes] + 1 / len(nodes))
        resistance = G.diagonal()[:, None] + G.diagonal() - (G + G.T)
        R[nodes[:, None], nodes] = resistance.fill_diagonal_(0).clamp(min=0)
    return R


def commute_time(edge_index: Tensor, num_nodes: int) -> Tensor:
    r"""Expected steps of a random walk from ``u`` to ``v`` and back (chapter 9).

    .. math:: C_{uv} = 2 m R_{uv}

    ``m`` counts the edges of the component that holds both nodes: the walk sees no other. Args, Shapes, Raises: as
    :func:`effective_resistance`.

    Source: Chandra et al. (1996).
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    R = effective_resistance(edge_index, num_nodes)
    proper = edge_index[:, edge_index[0] != edge_index[1]]
    degree = torch.bincount(proper[0], minlength=num_nodes)
    for nodes in connected_components(edge_index, num_nodes):
        R[nodes[:, None], nodes] *= float(degree[nodes].sum())  # 2 m of the component
    return R
