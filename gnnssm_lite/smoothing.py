r"""Dirichlet energy and its relatives, layer by layer, with the bounds of section 4 of the paper.

Introduced in chapters 5 and 6. All measures are summed in float64 whatever the dtype of the features: those of a deep
vanishing network are near 1e-30, and their squares do not exist in float32.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
import scipy.sparse.linalg
import torch
from torch import Tensor, nn

from .checks import check_edge_index, check_features, check_finite, check_floating, check_int
from .graphs import _edge_weight, edges_of, laplacian, to_dense
from .jacobian import call_and_warn, call_layer, naming, spectral_norm, warn_of_training
from .models.convolutions import GCN, identity
from .models.networks import lift, readout
from .models.recurrence import GNNSSM

Layer = Callable[..., Tensor]
CHUNK = 2 ** 16  # entries of one block of edge differences: half a MiB in float64, so that a block stays in the cache
DENSE_NODES = 512  # up to this size an eigensolver for dense matrices is the faster one

# Lipschitz constants of the activations that layers can name. GELU's slope Φ(x) + x φ(x) is largest at x = √2.
LIPSCHITZ = {identity: 1.0, torch.relu: 1.0, torch.tanh: 1.0, torch.sigmoid: 0.25, nn.functional.elu: 1.0,
             nn.functional.leaky_relu: 1.0,
             nn.functional.gelu: (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi)}


# ---------------------------------------------------------------- measures

def dirichlet_energy(h: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
    r"""Dirichlet energy, each undirected edge counted once (Eq. 11, chapter 6).

    .. math:: E(H) = \operatorname{tr}(H^\top L H) = \sum_{(u,v) \in E} w_{uv} \|h_u - h_v\|^2

    Summed edge by edge, in blocks: time and memory are ``O(m d)`` and ``O(n d)``, the result is never negative, and it
    is exactly 0 for constant features.

    Args:
        h: ``(..., n, d)``, finite. edge_index: ``(2, E)``, both directions of every edge; self-loops do not count.
        edge_weight: ``(E,)`` non-negative weights, the same for both directions; all ones if ``None``, as in the paper.

    Shapes:
        returns ``(...)``, float64: one number a feature matrix.

    Raises:
        TypeError, ValueError: no floating-point features, NaN or infinite ones; a graph that is not undirected or does
            not fit ``h``; weights that do not fit the edges, are negative or differ between directions.

    Source: Cai & Wang (2020).
    """
    return _energy(h, *_checked_pairs(h, edge_index, edge_weight))


def feature_norm(h: Tensor) -> Tensor:
    """Frobenius norm ``‖H‖`` of each feature matrix, shape ``(...)``, float64.

    Raises:
        TypeError, ValueError: ``h`` is no floating-point matrix.
    """
    return torch.linalg.vector_norm(check_features(h), dim=(-2, -1), dtype=torch.float64)


def rayleigh_quotient(h: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
    r"""Norm-free Dirichlet energy: how unlike neighbours are, whatever the size of the features (chapter 6).

    .. math:: R(H) = E(H) / \|H\|^2 \in [0, \lambda_{\max}(L)]

    It does not change when ``H`` is scaled, so it tells features that shrink from features that become alike.

    Args, Shapes: as :func:`dirichlet_energy`.

    Raises:
        TypeError, ValueError: as :func:`dirichlet_energy`; features that are all zero, for which there is no quotient.
    """
    pairs, weight = _checked_pairs(h, edge_index, edge_weight)
    unit = _unit(h, _refuse_zero(h))
    return _energy(unit, pairs, weight) / unit.square().sum((-2, -1))


def normalized_rayleigh_quotient(h: Tensor, S: Tensor) -> Tensor:
    r"""Rayleigh quotient of the normalised Laplacian ``I - Â`` (chapter 6).

    .. math::
        R_{\mathrm{sym}}(H) = \frac{\operatorname{tr}(H^\top (I - \hat A) H)}{\|H\|^2}
                             = 1 - \frac{\langle H, \hat A H\rangle}{\|H\|^2}

    It lies in ``[0, 2)`` for ``S = Â`` and is 0 for features proportional to ``D̃^{1/2} 1``, the limit of ``Â^K``. The
    difference has the rounding error of ``S``; :func:`trajectory` sums over edges instead and resolves smaller values.

    Args:
        h: ``(..., n, d)``, finite and not all zero. S: ``(..., n, n)``, dense or sparse, symmetric.

    Shapes:
        returns ``(...)``, float64.

    Raises:
        TypeError, ValueError: wrong types, shapes that do not fit, an ``S`` that is not symmetric, features that are NaN or
            all zero.
    """
    check_finite("h", check_features(h))
    check_floating("S", S)
    if S.shape[-2:] != (h.shape[-2], h.shape[-2]):
        raise ValueError(f"S must have shape (..., {h.shape[-2]}, {h.shape[-2]}) to fit h; "
                         f"its shape was {tuple(S.shape)}")
    _check_symmetric(S.detach())
    unit = _unit(h, _refuse_zero(h))
    return (unit * (unit - S.double() @ unit)).sum((-2, -1)) / unit.square().sum((-2, -1))


def _check_symmetric(S: Tensor) -> None:
    """Refuse an ``S`` that differs from ``Sᵀ`` by more than rounding."""
    if not S.numel():
        return
    if S.layout == torch.strided:
        gap, largest = float((S - S.mT).abs().max()), float(S.abs().max())
    else:
        matrix = _scipy(S)
        gap, largest = abs(matrix - matrix.T).max(), abs(matrix).max()
    if not gap <= 1e-6 * max(1.0, largest):
        raise ValueError(f"S must be symmetric; max |S - Sᵀ| = {gap:.4g}")


def _pairs(edge_index: Tensor) -> Tensor:
    """Each undirected edge once, without self-loops."""
    return edge_index[:, edge_index[0] < edge_index[1]]


def _checked_pairs(h: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Each undirected edge once and, if there are any, the weights of these edges in float64."""
    check_finite("h", check_features(h))
    edge_index, num_nodes = check_edge_index(edge_index, h.shape[-2])
    if edge_weight is None:
        return _pairs(edge_index), None
    weight = _edge_weight(edge_index, num_nodes, edge_weight, torch.float64)
    return _pairs(edge_index), weight[edge_index[0] < edge_index[1]]


def _refuse_zero(h: Tensor) -> Tensor:
    largest = h.detach().abs().amax((-2, -1), keepdim=True)
    if not bool((largest > 0).all()):
        raise ValueError("h must not be all zero: the quotient E(H)/‖H‖² is then 0/0")
    return largest


def _unit(h: Tensor, largest: Tensor) -> Tensor:
    """``h`` in float64 with largest entry 1, so that no square under- or overflows."""
    return h.double() / largest.double()


def _energy(h: Tensor, pairs: Tensor, weight: Tensor | None) -> Tensor:
    return _edge_sums(h, pairs, weight)[0]


def _squares(differences: Tensor, weight: Tensor | None) -> Tensor:
    squares = differences.double().square()
    return (squares if weight is None else squares * weight.unsqueeze(-1)).sum((-2, -1))


def _edge_sums(h: Tensor, pairs: Tensor, weight: Tensor | None = None,
               scale: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """``Σ w ‖h_u - h_v‖²`` over ``pairs`` and, for factors ``s = scale`` of the nodes, ``(n, 1)``, the same of ``s h``."""
    plain = h.new_zeros(h.shape[:-2], dtype=torch.float64)
    scaled = None if scale is None else plain
    block = max(1, CHUNK // max(1, h.shape[-1] * math.prod(h.shape[:-2])))
    for start in range(0, pairs.shape[1], block):
        u, v = pairs[:, start:start + block]
        w = None if weight is None else weight[start:start + block]
        h_u, h_v = h.index_select(-2, u), h.index_select(-2, v)
        plain = plain + _squares(h_u - h_v, w)
        if scale is not None:
            scaled = scaled + _squares(scale[u] * h_u - scale[v] * h_v, w)
    return plain, scaled


# ---------------------------------------------------------------- trajectories

MEASURES = ("energy", "norm", "rayleigh", "normalized_rayleigh")


def walk(layers: Iterable[Layer], h: Tensor, *graph: object) -> Iterator[Tensor]:
    """The features ``H^{(0)}, H^{(1)}, ...`` one by one, without gradients; no more than one layer's are kept.

    Args:
        layers: callables ``layer(h, *graph)``, and modules without a graph as in :func:`~gnnssm_lite.jacobian.compose`;
            a generator may make each one just before it is needed. Put modules with dropout or batch norm into ``eval()``.
        h: ``(n, d)``, features. The ``lift`` of the first layer, if it is one of this package
            (:class:`~gnnssm_lite.models.convolutions.GraphLayer`), turns them into its state.
        graph: what the layers take beside features.

    Yields:
        the ``readout`` of each state (the state itself for layers that are not of this package), the initial one first.

    Raises:
        TypeError: ``layers`` is a single layer; a layer returns no tensor.
    """
    layers = _each(layers)
    first = next(layers, None)
    if first is None:
        yield h
        return
    with torch.no_grad():
        state = lift(first, h)
    yield readout(first, state)
    for k, layer in enumerate(chain([first], layers)):
        warn_of_training(layer)
        with torch.no_grad(), naming(k, layer):  # around the step only: a generator must not change its caller's mode
            state = call_and_warn(layer, state, graph, 4)
        if not isinstance(state, Tensor):
            raise TypeError(f"layers[{k}], a {type(layer).__name__}, must return a tensor; it returned "
                            f"{type(state).__name__}")
        yield readout(layer, state)


def _each(layers: Iterable[Layer]) -> Iterator[Layer]:
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of layers, or anything that gives them one by one; "
                        f"it was a {type(layers).__name__} (for one layer: [layer])")
    return iter(layers)


def trajectory(layers: Iterable[Layer], h: Tensor, *graph: object,
               measures: Iterable[str] | Mapping[str, Callable[[Tensor], object]] = MEASURES,
               edge_index: Tensor | None = None, edge_weight: Tensor | None = None) -> pd.DataFrame:
    r"""Measures of the features after every layer of a stack; the features themselves are not kept.

    Args:
        layers, h, graph: as :func:`walk`. The stack may have any depth: memory does not grow with it.
        measures: names out of ``"energy"`` (:func:`dirichlet_energy`), ``"norm"``, ``"rayleigh"`` (``E/‖H‖²``) and
            ``"normalized_rayleigh"`` (for ``I - Â``), or a mapping from names of your own to functions of ``H^{(k)}``
            that return a number; in a mapping the value ``None`` stands for the built-in measure of that name.
        edge_index: edges for the built-in measures; by default the ``edge_index`` among ``graph`` or, if there is none, the
            edges of the operator ``graph[0]``, each with weight 1: an operator gives its pattern, not its weights.
        edge_weight: weights of ``edge_index`` for the built-in measures, as in :func:`dirichlet_energy` and
            :func:`~gnnssm_lite.graphs.normalized_adjacency`.

    Shapes:
        ``h``: ``(n, d)``; returns one row a layer, ``K + 1`` of them, with the columns ``layer`` and ``measures``.

    Quotients are NaN once features are exactly zero. Overflowing features give ``inf`` and NaN, no error.

    Raises:
        TypeError, ValueError: as :func:`walk`; ``h`` is no finite feature matrix; a layer that changes the number of
            nodes; an unknown measure; a graph without edges to be found.

    Example:
        >>> trajectory((GCN(64, 64) for _ in range(80)), x, S)
    """
    check_finite("h", check_features(h))
    if h.dim() != 2:
        raise ValueError(f"h must have shape (nodes, features); its shape was {tuple(h.shape)}")
    wanted = _resolve_measures(measures)
    over_edges = None
    if any(f is None and name != "norm" for name, f in wanted.items()):
        if edge_index is None:
            edge_index = _edges(graph, edge_weight)
        over_edges = _edge_measures(h, edge_index, edge_weight)
    rows = []
    for k, features in enumerate(walk(layers, h, *graph)):
        if features.dim() != 2 or len(features) != len(h):
            raise ValueError(f"layers must return matrices with the {len(h)} rows of h; after layers[{k - 1}] the shape was "
                             f"{tuple(features.shape)}")
        with torch.no_grad():
            built_in = {"norm": feature_norm(features)} if over_edges is None else over_edges(features)
            row = {name: built_in[name] if f is None else f(features) for name, f in wanted.items()}
        rows.append({"layer": k, **{name: float(value) for name, value in row.items()}})
    return pd.DataFrame(rows)


def projected_trajectory(layers: Iterable[Layer], h: Tensor, *graph: object,
                         projection: Tensor | None = None) -> np.ndarray:
    """Features after every layer in a fixed plane, for phase plots.

    Args:
        layers, h, graph: as :func:`walk`.
        projection: ``(d, 2)``, for instance :func:`principal_plane`; the first two features if ``None``.

    Shapes:
        returns ``(K + 1, n, 2)``, float64.
    """
    points = []
    for features in walk(layers, h, *graph):
        with torch.no_grad():
            flat = features[..., :2] if projection is None else features @ projection
        points.append(flat.double().cpu().numpy())
    return np.stack(points)


def principal_plane(h: Tensor, dim: int = 2) -> Tensor:
    """The ``dim`` principal directions of ``h`` about the origin, ``(d, dim)``, orthonormal.

    About the origin and not the mean, because 0 is the fixed point to look at. Signs: the largest entry is positive.

    Raises:
        TypeError, ValueError: ``h`` is no floating-point matrix; more directions than its rank can be.
    """
    dim = check_int("dim", dim, 1)
    if dim > min(h.shape[-2:]):
        raise ValueError(f"dim must be at most {min(h.shape[-2:])}, the rank of h at best; it was {dim}")
    directions = torch.linalg.svd(check_features(h).detach(), full_matrices=False).Vh[:dim]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return (directions * largest.sign()).T.contiguous()


def decay_rate(values: object) -> float:
    """The factor per layer ``ρ`` of the best fit ``values[k] ≈ c ρ^k`` (least squares on logarithms).

    Args:
        values: a measure after each layer; entries that are zero or not finite are left out, at least two must remain.

    Raises:
        ValueError: fewer than two positive finite values.
    """
    values = np.asarray(values, dtype=float)
    layer = np.flatnonzero(np.isfinite(values) & (values > 0))
    if len(layer) < 2:
        raise ValueError(f"values must hold at least two positive finite numbers; it held {len(layer)}")
    return float(np.exp(np.polyfit(layer, np.log(values[layer]), 1)[0]))


def _resolve_measures(measures: object) -> dict[str, Callable | None]:
    """Names and functions; ``None`` for the built-in measure of that name."""
    if isinstance(measures, str):
        measures = [measures]
    wanted = dict(measures) if isinstance(measures, Mapping) else dict.fromkeys(measures)
    unknown = sorted(name for name, f in wanted.items() if f is None and name not in MEASURES)
    if unknown:
        raise ValueError(f"measures must be among {', '.join(MEASURES)} or map names to functions; "
                         f"unknown: {', '.join(unknown)}")
    return wanted


def _edge_measures(h: Tensor, edge_index: Tensor,
                   edge_weight: Tensor | None) -> Callable[[Tensor], dict[str, Tensor]]:
    """The built-in measures in one pass over the edges, with all that does not change between layers computed once."""
    pairs, weight = _checked_pairs(h, edge_index, edge_weight)
    # hᵀ(I - Â)h = Σ w ‖h_u/√d̃_u - h_v/√d̃_v‖²; d̃ sums the weights of a node's edges and of its self-loop.
    ones = pairs.new_ones(pairs.shape[1], dtype=torch.float64) if weight is None else weight
    degree = _self_loops(edge_index, edge_weight, h).index_add(0, pairs[0], ones).index_add(0, pairs[1], ones)
    scale = torch.where(degree > 0, degree, 1).rsqrt().unsqueeze(-1)

    def measure(features: Tensor) -> dict[str, Tensor]:
        largest = features.abs().max().double()
        unit = features.double() / torch.where(largest > 0, largest, torch.ones_like(largest))
        plain, scaled = _edge_sums(unit, pairs, weight, scale)
        square = unit.square().sum()  # 0 for features that are zero: the quotients are then 0/0, NaN
        return {"energy": plain * largest ** 2, "norm": feature_norm(features), "rayleigh": plain / square,
                "normalized_rayleigh": scaled / square}

    return measure


def _self_loops(edge_index: Tensor, edge_weight: Tensor | None, h: Tensor) -> Tensor:
    """Weight of the self-loop that each node has in ``Â``: 1 unless ``edge_index`` has that loop with another weight."""
    loops = h.new_ones(h.shape[-2], dtype=torch.float64)
    if edge_weight is not None:
        given = edge_index[0] == edge_index[1]
        loops[edge_index[0][given].long()] = edge_weight[given].double()
    return loops


def _edges(graph: tuple, edge_weight: Tensor | None) -> Tensor:
    given = [g for g in graph if isinstance(g, Tensor) and not g.is_floating_point() and g.dim() == 2 and g.shape[0] == 2]
    first = given[0] if given else graph[0] if graph else None
    if edge_weight is not None and (not isinstance(first, Tensor) or first.is_floating_point()):
        raise ValueError("edge_index must be given with edge_weight, so that each weight has its edge; it was None")
    if not isinstance(first, Tensor) or first.dim() != 2:
        raise ValueError("edge_index must be given when the first of graph is no operator and no edge_index; "
                         f"it was {type(first).__name__}")
    return edges_of(first) if first.is_floating_point() else first


# ---------------------------------------------------------------- norms and bounds

def operator_norm(S: Tensor) -> float:
    """Spectral norm ``‖S‖₂`` of an operator or weight, dense or sparse; 1 for ``Â``.

    Raises:
        TypeError, ValueError: ``S`` is no finite floating-point matrix.
    """
    if check_floating("S", S).dim() != 2:
        raise ValueError(f"S must be a matrix; its shape was {tuple(S.shape)}")
    S = S.detach()
    if S.layout == torch.strided or max(S.shape) <= DENSE_NODES:
        return float(torch.linalg.matrix_norm(check_finite("S", to_dense(S).double()), 2))
    matrix = _scipy(S)
    gram = scipy.sparse.linalg.LinearOperator((matrix.shape[1],) * 2, lambda x: matrix.T @ (matrix @ x), dtype=float)
    start = np.random.default_rng(0).standard_normal(matrix.shape[1])  # a fixed start: the same answer each time
    # A residual of 1e-9 leaves an error of its square in the eigenvalue; with tol = 0 the 78-fold eigenvalue 1 of
    # Cora's Â (one for each component) never converges.
    top = scipy.sparse.linalg.eigsh(gram, k=1, v0=start, tol=1e-9, ncv=40, return_eigenvectors=False)
    return float(np.sqrt(top[0]))


def _scipy(S: Tensor) -> scipy.sparse.csr_matrix:
    S = S if S.layout == torch.sparse_csr else S.to_sparse_csr()
    parts = (S.values().double(), S.col_indices(), S.crow_indices())
    return scipy.sparse.csr_matrix(tuple(part.cpu().numpy() for part in parts), shape=tuple(S.shape))


def layer_norm_bound(layer: Layer, S: Tensor | float, lipschitz: float | None = None) -> float:
    r"""A bound of ``‖J‖₂`` over all inputs, hence of the layer's Lipschitz constant (Lemma A.8).

    .. math:: \|J\|_2 \le \operatorname{Lip}(\sigma)\, \|S\|_2\, \|W\|_2 \quad\text{(GCN)}, \qquad
              \|J\|_2 \le \|\Lambda\|_2 + \|B\|_2 \|J_F\|_2 \quad\text{(GNN-SSM, Proposition 3.3)}

    For a linear GCN layer it is an equality.

    Args:
        layer: a :class:`~gnnssm_lite.models.convolutions.GCN`, or a
            :class:`~gnnssm_lite.models.recurrence.GNNSSM` around one (or around nothing). A subclass counts as one as long
            as it leaves ``forward`` as it is: another forward pass has another bound.
        S: the operator, ``(n, n)``, or its norm ``‖S‖₂`` where that is already known.
        lipschitz: ``Lip(σ)``, needed when σ is not one of the named activations.

    Raises:
        TypeError: another kind of layer, or a forward pass of its own.
        ValueError: an activation whose Lipschitz constant is not known.
    """
    if _computes_as(layer, GNNSSM):
        update = 0.0 if layer.coupling is None else layer_norm_bound(layer.coupling, S, lipschitz)
        return operator_norm(layer.Lambda) + (1.0 if layer.B is None else operator_norm(layer.B)) * update
    if not _computes_as(layer, GCN):
        own = " with a forward of its own" if isinstance(layer, (GCN, GNNSSM)) else ""
        raise TypeError(f"layer must be a GCN or a GNNSSM around one; it was {type(layer).__name__}{own}")
    lipschitz = LIPSCHITZ.get(layer.activation) if lipschitz is None else float(lipschitz)
    if lipschitz is None:
        raise ValueError(f"lipschitz must be given for the activation {layer.activation!r}")
    return lipschitz * (operator_norm(S) if isinstance(S, Tensor) else float(S)) * operator_norm(layer.weight)


def _computes_as(layer: Layer, kind: type[nn.Module]) -> bool:
    """Whether calling ``layer`` runs the forward pass of ``kind`` itself, not one that a subclass or the instance has."""
    return (isinstance(layer, kind) and type(layer).forward is kind.forward and type(layer).__call__ is kind.__call__
            and "forward" not in vars(layer))


def local_norms(layers: Iterable[Layer], h: Tensor, *graph: Tensor) -> np.ndarray:
    """Spectral norms ``‖J_k(H^{(k-1)})‖₂`` of a stack's Jacobians at the features that reach each layer, ``(K,)``.

    Matrix-free, so it serves large graphs. The assumption of Proposition 4.2 is about all inputs, not these alone.
    """
    norms = []
    for k, layer in enumerate(_each(layers)):
        with naming(k, layer):
            norms.append(spectral_norm(layer, h, *graph))
            with torch.no_grad():
                h = call_layer(layer, h, graph)
    return np.array(norms)


def contraction_bound(norms: Sequence[float], x_norm: float) -> np.ndarray:
    r"""Upper bounds of the feature norm after each layer (Eq. 13, Proposition 4.2).

    .. math:: \|f_k \circ \dots \circ f_1(x)\| \le \prod_{j \le k} \|J_{f_j}\|\, \|x\|

    Args:
        norms: ``‖J_k‖`` over all inputs (or at least over the segment from 0 to the features), for ``k = 1 .. K``.
        x_norm: ``‖x‖``.

    Shapes:
        returns ``(K + 1,)``; entry 0 is ``‖x‖``.

    Raises:
        ValueError: a negative or NaN norm.
    """
    factors = np.concatenate([[float(x_norm)], np.asarray(norms, dtype=float).reshape(-1)])
    if not (factors >= 0).all():
        raise ValueError(f"norms and x_norm must be non-negative; the smallest was {factors.min()}")
    return np.cumprod(factors)


def energy_bound(norms: Sequence[float], x_norm: float, num_edges: int) -> np.ndarray:
    r"""Upper bounds of the Dirichlet energy after each layer, as the paper has them (Eq. 14, Proposition 4.3).

    .. math:: E(f(x)) \le 4\, m \prod_k \|J_{f_k}\|^2\, \|x\|^2

    The constant follows from ``‖a - b‖² ≤ 2‖a‖² + 2‖b‖²`` with ``‖a‖, ‖b‖ ≤ ‖H‖`` for each edge. It holds but is never
    attained: see :func:`energy_constants` for what does hold with equality.

    Args:
        norms, x_norm: as :func:`contraction_bound`. num_edges: ``m``, each undirected edge once.

    Shapes:
        returns ``(K + 1,)``.

    Raises:
        TypeError, ValueError: as :func:`contraction_bound`; ``num_edges`` no non-negative integer.
    """
    return 4 * check_int("num_edges", num_edges, 0) * contraction_bound(norms, x_norm) ** 2


def sharp_energy_bound(norms: Sequence[float], x_norm: float, largest_eigenvalue: float) -> np.ndarray:
    r"""The sharp form of Proposition 4.3, ``E(f(x)) ≤ λ_max(L) ∏_k ‖J_{f_k}‖² ‖x‖²``, for each depth, ``(K + 1,)``.

    ``E(H) ≤ λ_max(L) ‖H‖²`` is attained by the top eigenvector of ``L``, so no smaller constant holds on that graph.

    Args:
        norms, x_norm: as :func:`contraction_bound`. largest_eigenvalue: ``λ_max(L)``, see :func:`energy_constants`.
    """
    return float(largest_eigenvalue) * contraction_bound(norms, x_norm) ** 2


CONSTANTS = ("largest_eigenvalue", "edge_degrees", "max_degree", "edges_plus_one", "twice_edges", "paper")


def energy_constants(edge_index: Tensor, num_nodes: int) -> dict[str, float]:
    r"""Constants ``c`` with ``E(H) ≤ c ‖H‖²`` on a graph, from the sharp one to the paper's.

    ======================  ===========================================================================
    ``largest_eigenvalue``  ``λ_max(L)``: sharp on every graph
    ``edge_degrees``        ``max_{(u,v)} (d_u + d_v)`` (Anderson & Morley): at least ``λ_max``
    ``max_degree``          ``2 d_max``: from ``Σ_E 2(‖h_u‖² + ‖h_v‖²) = 2 Σ_u d_u ‖h_u‖²``
    ``edges_plus_one``      ``m + 1``: two neighbours share one edge, so ``d_u + d_v ≤ m + 1``. The best
                            that ``m`` alone can give: the star attains it
    ``twice_edges``         ``2 m``: from ``‖h_u‖² + ‖h_v‖² ≤ ‖H‖²`` for ``u ≠ v``
    ``paper``               ``4 m``: from ``‖h_u‖² ≤ ‖H‖²`` for each end on its own
    ======================  ===========================================================================

    Then ``λ_max ≤ edge_degrees ≤ min(2 d_max, m + 1)`` and ``m + 1 ≤ 2 m ≤ 4 m``. All are 0 without edges.

    Args:
        edge_index, num_nodes: an undirected graph; self-loops do not count.

    Raises:
        TypeError, ValueError: as :func:`gnnssm_lite.graphs.adjacency`.
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    pairs = _pairs(edge_index)
    m = pairs.shape[1]
    if m == 0:
        return dict.fromkeys(CONSTANTS, 0.0)
    degree = torch.bincount(pairs.reshape(-1), minlength=num_nodes)
    largest = operator_norm(laplacian(edge_index, num_nodes, "sparse", torch.float64))
    sums = degree[pairs[0]] + degree[pairs[1]]
    values = (largest, float(sums.max()), 2.0 * float(degree.max()), m + 1.0, 2.0 * m, 4.0 * m)
    return dict(zip(CONSTANTS, values, strict=True))


# ---------------------------------------------------------------- Propositions 4.2 and 4.3 as a check

@dataclass(frozen=True)
class ContractionCheck:
    """What a stack of layers says to section 4 of the paper, number by number. See :func:`check_contraction`.

    Attributes:
        norms: ``(K,)`` bounds of ``‖J_k‖`` that were used.
        at_zero: ``(K,)`` norms ``‖f_k(0)‖``; Lemma 4.1 says 0.
        feature_norms: ``(K + 1,)``, left side of Proposition 4.2.
        norm_bounds: ``(K + 1,)``, its right side.
        energies: ``(K + 1,)``, left side of Proposition 4.3.
        energy_bounds: ``(K + 1,)``, its right side.
        sharp_bounds: ``(K + 1,)``, the right side with ``λ_max(L)``.
        tolerance: relative slack of the comparisons, for rounding.
    """

    norms: np.ndarray
    at_zero: np.ndarray
    feature_norms: np.ndarray
    norm_bounds: np.ndarray
    energies: np.ndarray
    energy_bounds: np.ndarray
    sharp_bounds: np.ndarray
    tolerance: float

    def _below(self, values: np.ndarray, bounds: np.ndarray) -> bool:
        return bool(np.all(values <= bounds * (1 + self.tolerance)))

    @property
    def violations(self) -> list[int]:
        """The layers ``k`` (from 1) with ``‖J_k‖ ≥ 1``: they break the assumption of Proposition 4.2."""
        return [k for k, norm in enumerate(self.norms, start=1) if not norm < 1]

    @property
    def contracts(self) -> bool:
        """Whether every layer meets the assumption ``‖J_k‖ < 1``."""
        return not self.violations

    @property
    def fixes_zero(self) -> bool:
        """Whether ``f_k(0) = 0`` for every layer, exactly, as Lemma 4.1 says."""
        return bool(np.all(self.at_zero == 0))

    @property
    def norm_bounded(self) -> bool:
        """Whether the inequality of Proposition 4.2 holds after every layer."""
        return self._below(self.feature_norms, self.norm_bounds)

    @property
    def energy_bounded(self) -> bool:
        """Whether the inequality of Proposition 4.3 holds after every layer, in the paper's and in the sharp form."""
        return self._below(self.energies, self.energy_bounds) and self._below(self.energies, self.sharp_bounds)

    @property
    def holds(self) -> bool:
        """Assumptions and conclusions together."""
        return self.contracts and self.fixes_zero and self.norm_bounded and self.energy_bounded


def check_contraction(layers: Iterable[Layer], h: Tensor, S: Tensor, norms: Sequence[float] | None = None,
                      tolerance: float = 1e-9) -> ContractionCheck:
    r"""Check Lemma 4.1 and Propositions 4.2 and 4.3 on a stack of layers.

    A stack that breaks an assumption is reported, not refused: read ``violations`` and ``holds`` of the result. The two
    inequalities hold for norms of any size as long as ``f_k(0) = 0``; that features vanish needs ``‖J_k‖ < 1``.

    Args:
        layers: callables ``layer(h, S)``.
        h: ``(n, d)``, the input ``x``; float64 for validating theory.
        S: ``(n, n)``, also the source of the edges of the Dirichlet energy.
        norms: bounds of ``‖J_k‖`` over all inputs; :func:`layer_norm_bound` of each layer if ``None``.
        tolerance: relative slack for rounding; for float32 take about 1e-4.

    Raises:
        TypeError, ValueError: as :func:`layer_norm_bound` and :func:`trajectory`; norms that are not one a layer.

    Example:
        >>> check_contraction([GCN(4, 4, "tanh").double() for _ in range(8)], x, S).violations
    """
    layers = list(_each(layers))
    if norms is None:
        norm = operator_norm(S)
        norms = [layer_norm_bound(layer, norm) for layer in layers]
    norms = np.array(norms, dtype=float)
    if norms.shape != (len(layers),):
        raise ValueError(f"norms must hold one number for each of the {len(layers)} layers; "
                         f"its shape was {norms.shape}")
    run = trajectory(layers, h, S, measures=("energy", "norm"))
    at_zero, zero = [], torch.zeros_like(h)
    for layer in layers:
        with torch.no_grad():
            out = layer(zero, S)
        at_zero.append(float(feature_norm(out)))
        zero = torch.zeros_like(out)  # the next layer may have another width
    constants = energy_constants(edges_of(S), h.shape[0])
    x_norm = float(feature_norm(h))
    return ContractionCheck(
        norms, np.array(at_zero), run["norm"].to_numpy(), contraction_bound(norms, x_norm), run["energy"].to_numpy(),
        constants["paper"] * contraction_bound(norms, x_norm) ** 2,
        sharp_energy_bound(norms, x_norm, constants["largest_eigenvalue"]), float(tolerance))
