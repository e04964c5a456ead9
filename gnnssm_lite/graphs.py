r"""Graphs, their operators and their spectra. Knows no model.

A graph is a pair ``edge_index, num_nodes`` as in torch-geometric: ``edge_index`` of shape ``(2, E)`` lists every
undirected edge in both directions. An operator is a matrix over nodes, dense ``(n, n)`` or sparse CSR, that layers
apply as ``S @ h``. Introduced in chapter 1.
"""
from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Sequence

import networkx as nx
import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor

from .checks import check_choice, check_edge_index, check_finite, check_floating, check_int

LAYOUTS = ("dense", "sparse")


# ---------------------------------------------------------------- operators

def adjacency(edge_index: Tensor, num_nodes: int, layout: str = "dense", dtype: torch.dtype = torch.float32,
              edge_weight: Tensor | None = None) -> Tensor:
    r"""Adjacency matrix ``A`` of an undirected graph.

    .. math:: A_{uv} = w_{uv} \text{ if } (u, v) \in E, \text{ else } 0

    Args:
        edge_index: ``(2, E)`` integers, both directions of every edge; self-loops are kept.
        num_nodes: number of nodes ``n``.
        layout: ``"dense"`` for a strided matrix, ``"sparse"`` for compressed sparse rows (CSR).
        dtype: a floating-point dtype.
        edge_weight: ``(E,)`` non-negative weights, the same for both directions; all ones if ``None``.

    Shapes:
        returns ``(n, n)``.

    Raises:
        TypeError: wrong type or dtype of an argument.
        ValueError: empty graph, node out of range, repeated or one-way edge, negative or NaN weight, unknown layout.
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    weight = _edge_weight(edge_index, num_nodes, edge_weight, dtype)
    return _matrix(edge_index, weight, num_nodes, layout)


def normalized_adjacency(edge_index: Tensor, num_nodes: int, layout: str = "dense",
                         dtype: torch.dtype = torch.float32, edge_weight: Tensor | None = None,
                         self_loops: bool = True) -> Tensor:
    r"""Symmetrically normalised adjacency with self-loops (Eq. 2, chapter 1).

    .. math:: \hat A = \tilde D^{-1/2} (A + I) \tilde D^{-1/2}, \qquad \tilde D = D + I

    Its eigenvalues lie in ``(-1, 1]``. A node that already has a self-loop keeps that one and gets no second
    (as torch-geometric does). An isolated node gets the row of the identity.

    Args, Shapes, Raises: as :func:`adjacency`. With ``self_loops=False`` none are added, ``D^{-1/2} A D^{-1/2}``: the row
    of an isolated node is then zero.

    Source: Kipf & Welling (2017).
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    weight = _edge_weight(edge_index, num_nodes, edge_weight, dtype)
    if self_loops:
        edge_index, weight = _with_self_loops(edge_index, weight, num_nodes)
    degree = torch.zeros(num_nodes, dtype=dtype, device=weight.device).index_add_(0, edge_index[0], weight)
    scale = torch.where(degree > 0, degree, torch.ones_like(degree)).rsqrt()
    return _matrix(edge_index, scale[edge_index[0]] * weight * scale[edge_index[1]], num_nodes, layout)


def mean_adjacency(edge_index: Tensor, num_nodes: int, layout: str = "dense", dtype: torch.dtype = torch.float32,
                   edge_weight: Tensor | None = None) -> Tensor:
    r"""Row-normalised adjacency ``D^{-1} A``, the operator of GraphSAGE's mean aggregation.

    With weights the mean is a weighted one. The row of an isolated node, or of one whose edges all weigh 0, is zero.
    Args, Shapes, Raises: as :func:`adjacency`.
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    weight = _edge_weight(edge_index, num_nodes, edge_weight, dtype)
    # Summed in float64, so that low precision counts neighbours right, too.
    degree = torch.zeros(num_nodes, dtype=torch.float64, device=weight.device).index_add(0, edge_index[0], weight.double())
    degree = torch.where(degree > 0, degree, 1).to(dtype)
    return _matrix(edge_index, weight / degree[edge_index[0]], num_nodes, layout)


def laplacian(edge_index: Tensor, num_nodes: int, layout: str = "dense", dtype: torch.dtype = torch.float32,
              edge_weight: Tensor | None = None) -> Tensor:
    r"""Combinatorial Laplacian (Eq. 11, chapter 6).

    .. math:: L = D - A

    Positive semi-definite, rows sum to zero, one zero eigenvalue for each connected component. Self-loops cancel
    and are dropped. Args, Shapes, Raises: as :func:`adjacency`.

    Source: Chung (1997).
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    weight = _edge_weight(edge_index, num_nodes, edge_weight, dtype)
    proper = edge_index[0] != edge_index[1]
    edge_index, weight = edge_index[:, proper], weight[proper]
    degree = torch.zeros(num_nodes, dtype=dtype, device=weight.device).index_add_(0, edge_index[0], weight)
    nodes = torch.arange(num_nodes, device=edge_index.device)
    return _matrix(torch.cat([edge_index, nodes.expand(2, -1)], 1), torch.cat([-weight, degree]), num_nodes, layout)


OPERATORS = {"normalized": normalized_adjacency, "mean": mean_adjacency, "adjacency": adjacency}


def operator(kind: str, edge_index: Tensor, num_nodes: int, layout: str = "dense",
             dtype: torch.dtype = torch.float32, edge_weight: Tensor | None = None) -> Tensor:
    """The operator that a layer asks for by its ``operator`` attribute: ``"normalized"``, ``"mean"`` or ``"adjacency"``.

    The other arguments are those of :func:`adjacency`.

    Raises:
        TypeError, ValueError: an unknown kind; as :func:`adjacency`.

    Example:
        >>> S = operator(GCN.operator, ring(6), 6)
    """
    return OPERATORS[check_choice("kind", kind, tuple(OPERATORS))](edge_index, num_nodes, layout, dtype, edge_weight)


def batch_operator(kind: str, A: Tensor) -> Tensor:
    """The operators of many graphs of one size at once: :func:`operator` for a batch of dense adjacency matrices.

    Args:
        kind: ``"normalized"``, ``"mean"`` or ``"adjacency"``. A: ``(..., n, n)``, symmetric, non-negative, zero diagonal.

    Shapes:
        returns ``(..., n, n)``.

    Raises:
        TypeError, ValueError: ``A`` is no such batch of matrices; an unknown kind.
    """
    check_choice("kind", kind, tuple(OPERATORS))
    _check_adjacency(A)
    if kind == "adjacency":
        return A
    if kind == "mean":
        degree = A.sum(-1, keepdim=True)
        return A / torch.where(degree > 0, degree, 1)  # a node without neighbours has a row of zeros
    closed = A + torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    scale = closed.sum(-1).rsqrt()
    return scale.unsqueeze(-1) * closed * scale.unsqueeze(-2)


def _check_adjacency(A: Tensor) -> None:
    check_floating("A", A)
    if A.layout != torch.strided or A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"A must be dense, of shape (..., n, n); its shape was {tuple(A.shape)}, its layout {A.layout}")
    if not A.numel():
        return
    low, high = map(float, A.aminmax())  # one pass, and NaN if there is one
    if not (low > -math.inf and high < math.inf):
        check_finite("A", A)
    if low < 0:
        raise ValueError(f"A must be non-negative; its smallest entry was {low:.4g}")
    if not torch.equal(A, A.mT):
        raise ValueError(f"A must be symmetric; max |A - Aᵀ| = {float((A - A.mT).abs().max()):.4g}")


def _check_dtype(dtype: torch.dtype) -> torch.dtype:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point torch.dtype; it was {dtype!r}")
    return dtype


def _edge_weight(edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    _check_dtype(dtype)
    if edge_weight is None:
        return torch.ones(edge_index.shape[1], dtype=dtype, device=edge_index.device)
    check_finite("edge_weight", check_floating("edge_weight", edge_weight))
    if edge_weight.shape != (edge_index.shape[1],):
        raise ValueError(f"edge_weight must have shape ({edge_index.shape[1]},), one weight an edge; "
                         f"its shape was {tuple(edge_weight.shape)}")
    if edge_weight.numel() and float(edge_weight.min()) < 0:
        raise ValueError(f"edge_weight must be non-negative; its smallest entry was {float(edge_weight.min()):.4g}")
    forward = torch.argsort(edge_index[0] * num_nodes + edge_index[1])
    backward = torch.argsort(edge_index[1] * num_nodes + edge_index[0])
    gap = (edge_weight[forward] - edge_weight[backward]).abs()
    if gap.numel() and float(gap.max()) > 0:
        raise ValueError("edge_weight must be the same for both directions of an edge (adjacency must be symmetric); "
                         f"max |A - Aᵀ| = {float(gap.max()):.4g}")
    return edge_weight.to(dtype)


def _with_self_loops(edge_index: Tensor, weight: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    has_loop = torch.zeros(num_nodes, dtype=torch.bool, device=edge_index.device)
    has_loop[edge_index[0][edge_index[0] == edge_index[1]]] = True
    missing = torch.nonzero(~has_loop).view(-1)
    return torch.cat([edge_index, missing.expand(2, -1)], 1), torch.cat([weight, weight.new_ones(missing.numel())])


def _matrix(edge_index: Tensor, values: Tensor, num_nodes: int, layout: str) -> Tensor:
    check_choice("layout", layout, LAYOUTS)
    if layout == "dense":
        dense = torch.zeros(num_nodes, num_nodes, dtype=values.dtype, device=values.device)
        dense[edge_index[0], edge_index[1]] = values
        return dense
    # CSR by hand: going through COO makes torch warn about its beta state, and we know the edges to be unique.
    order = torch.argsort(edge_index[0] * num_nodes + edge_index[1])
    rows = torch.bincount(edge_index[0], minlength=num_nodes)
    crow = torch.cat([rows.new_zeros(1), rows.cumsum(0)])
    return sparse_matrix(crow, edge_index[1][order], values[order], (num_nodes, num_nodes))


def sparse_matrix(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix from row pointers, columns and values.

    Raises:
        RuntimeError: row pointers and columns that describe no matrix of that shape.
    """
    with warnings.catch_warnings():  # local to this call: the one-time notice that CSR tensors are in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=True)


def to_sparse(matrix: Tensor) -> Tensor:
    """The CSR form of a dense matrix such as a bag of words, or the matrix itself if it is CSR already."""
    if matrix.layout == torch.sparse_csr:
        return matrix
    row, col = torch.nonzero(matrix).t()
    crow = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=matrix.shape[0]).cumsum(0)])
    return sparse_matrix(crow, col, matrix[row, col], matrix.shape)


def to_dense(S: Tensor) -> Tensor:
    """``S`` as a strided matrix, whatever its layout."""
    return S if S.layout == torch.strided else S.to_dense()


def edges_of(S: Tensor) -> Tensor:
    """The non-zero pattern of an operator as ``edge_index`` of shape ``(2, E)``: row (receiver), column (sender)."""
    if S.layout == torch.sparse_csr:
        crow = S.crow_indices()
        rows = torch.repeat_interleave(torch.arange(S.shape[0], device=crow.device), crow.diff())
        return torch.stack([rows, S.col_indices()])[:, S.values() != 0]
    return torch.nonzero(to_dense(S)).t()


def spectrum(S: Tensor) -> Tensor:
    """Eigenvalues of a symmetric operator, ascending, in float64.

    Args:
        S: ``(n, n)``, dense or sparse. Each connected component is diagonalised on its own.

    Shapes:
        returns ``(n,)``.

    Raises:
        TypeError: ``S`` is no floating-point tensor.
        ValueError: ``S`` is not square, not finite or not symmetric.
    """
    parts = symmetric_eigen(S, vectors=False)
    return torch.sort(torch.cat([values for _, values, _ in parts])).values


def symmetric_eigen(S: Tensor, vectors: bool = True) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Eigendecomposition of a symmetric operator, one connected component at a time, in float64.

    Returns:
        for each component a triple ``(nodes, eigenvalues, eigenvectors)``; eigenvectors are ``None`` unless asked for.

    Raises:
        TypeError, ValueError: as :func:`spectrum`.
    """
    check_floating("S", S)
    if S.dim() != 2 or S.shape[0] != S.shape[1]:
        raise ValueError(f"S must be a square matrix; its shape was {tuple(S.shape)}")
    dense = check_finite("S", to_dense(S.detach()).double())
    gap = float((dense - dense.T).abs().max()) if dense.numel() else 0.0
    if gap > 1e-6 * max(1.0, float(dense.abs().max())):
        raise ValueError(f"S must be symmetric; max |S - Sᵀ| = {gap:.4g}")
    parts = []
    for nodes in _components(edges_of(S), S.shape[0]):
        block = dense[nodes[:, None], nodes[None, :]]
        if vectors:
            values, basis = torch.linalg.eigh(block)
            parts.append((nodes, values, basis))
        else:
            parts.append((nodes, torch.linalg.eigvalsh(block), None))
    return parts


# ---------------------------------------------------------------- distances and components

def khop_shells(edge_index: Tensor, num_nodes: int, max_hops: int) -> list[Tensor]:
    r"""Edges between nodes at shortest-path distance exactly ``k``, for ``k = 1 .. max_hops`` (Eq. 21, chapter 9).

    .. math:: N_k(u) = \{v : d(u, v) = k\}

    Returns:
        a list of ``max_hops`` tensors ``(2, E_k)``, both directions each, sorted; empty beyond the diameter.

    Raises:
        TypeError, ValueError: as :func:`adjacency`; ``max_hops`` below 1.
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    max_hops = check_int("max_hops", max_hops, 1)
    step = _scipy_adjacency(edge_index, num_nodes)
    seen = scipy.sparse.identity(num_nodes, dtype=bool, format="csr")
    frontier, shells = seen, []
    for _ in range(max_hops):
        reached = (frontier @ step).astype(bool)
        frontier = reached - reached.multiply(seen)  # boolean set difference
        frontier.eliminate_zeros()
        seen = (seen + frontier).astype(bool)
        frontier.sort_indices()  # a sparse product leaves them in any order
        rows, cols = frontier.nonzero()
        shells.append(torch.from_numpy(np.stack([rows, cols]).astype(np.int64)).to(edge_index.device))
    return shells


def shortest_path_lengths(edge_index: Tensor, num_nodes: int, source: int | Sequence[int] | None = None) -> Tensor:
    """Hop distances ``(n, n)``, ``(n,)`` from one ``source``, ``(k, n)`` from a list of ``k``; ``inf`` without a path.

    Raises:
        TypeError, ValueError: as :func:`adjacency`; a source that is no node.
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    for node in () if source is None else source if isinstance(source, Sequence) else (source,):
        if not 0 <= check_int("source", node, 0) < num_nodes:
            raise ValueError(f"source must be a node from 0 to {num_nodes - 1}; it was {node}")
    step = _scipy_adjacency(edge_index, num_nodes).astype(float)
    hops = scipy.sparse.csgraph.shortest_path(step, unweighted=True, indices=source)
    return torch.from_numpy(hops).to(edge_index.device)


def _scipy_adjacency(edge_index: Tensor, num_nodes: int) -> scipy.sparse.csr_matrix:
    rows, cols = edge_index.cpu().numpy()
    return scipy.sparse.csr_matrix((np.ones(len(rows), dtype=bool), (rows, cols)), shape=(num_nodes, num_nodes))


def _components(edge_index: Tensor, num_nodes: int) -> list[Tensor]:
    count, label = scipy.sparse.csgraph.connected_components(_scipy_adjacency(edge_index, num_nodes), directed=False)
    order = np.argsort(label, kind="stable")
    sizes = np.bincount(label, minlength=count)
    return [torch.from_numpy(part).to(edge_index.device) for part in np.split(order, np.cumsum(sizes)[:-1])]


def connected_components(edge_index: Tensor, num_nodes: int) -> list[Tensor]:
    """Node sets of the connected components, largest first.

    Raises:
        TypeError, ValueError: as :func:`adjacency`.
    """
    edge_index, num_nodes = check_edge_index(edge_index, num_nodes)
    return sorted(_components(edge_index, num_nodes), key=len, reverse=True)


def largest_component(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """The largest connected component.

    Returns:
        ``(edge_index, nodes)``: its edges, renumbered from 0, and the original number of each of its nodes.

    Raises:
        TypeError, ValueError: as :func:`adjacency`.
    """
    nodes = torch.sort(connected_components(edge_index, num_nodes)[0]).values
    position = torch.full((num_nodes,), -1, dtype=torch.long, device=edge_index.device)
    position[nodes] = torch.arange(len(nodes), device=edge_index.device)
    kept = position[edge_index[0]] >= 0
    return position[edge_index[:, kept]], nodes


# ---------------------------------------------------------------- generators

def undirected(pairs: Tensor) -> Tensor:
    """Both directions of the given ``(2, m)`` pairs, sorted, without self-loops and repetitions.

    Raises:
        TypeError: ``pairs`` is no tensor. ValueError: it has another shape.
    """
    if not isinstance(pairs, Tensor):
        raise TypeError(f"pairs must be a torch.Tensor; it was {type(pairs).__name__}")
    if pairs.dim() != 2 or pairs.shape[0] != 2:
        raise ValueError(f"pairs must have shape (2, number of pairs); its shape was {tuple(pairs.shape)}")
    pairs = pairs[:, pairs[0] != pairs[1]].long()
    return torch.unique(torch.cat([pairs, pairs.flip(0)], 1), dim=1)


def _from_networkx(graph: nx.Graph) -> Tensor:
    nodes = {node: i for i, node in enumerate(graph.nodes)}
    pairs = [(nodes[u], nodes[v]) for u, v in graph.edges]
    return undirected(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t())


def path(n: int) -> Tensor:
    """Path ``0 - 1 - ... - n-1``: ``n - 1`` edges, so its ends are ``n - 1`` hops apart.

    Raises:
        TypeError, ValueError: ``n`` is no integer, or below 1.
    """
    nodes = torch.arange(check_int("n", n, 1))
    return undirected(torch.stack([nodes[:-1], nodes[1:]]))


def ring(n: int) -> Tensor:
    """Cycle of ``n >= 3`` nodes; opposite nodes are ``n // 2`` hops apart.

    Raises:
        TypeError, ValueError: ``n`` is no integer, or below 3.
    """
    nodes = torch.arange(check_int("n", n, 3))
    return undirected(torch.stack([nodes, nodes.roll(-1)]))


def complete(n: int) -> Tensor:
    """Complete graph: every pair of the ``n`` nodes is joined.

    Raises:
        TypeError, ValueError: ``n`` is no integer, or below 1.
    """
    return undirected(torch.combinations(torch.arange(check_int("n", n, 1))).t().reshape(2, -1))


def star(n: int) -> Tensor:
    """Star of ``n`` nodes: node 0 is joined to each of the ``n - 1`` others.

    Raises:
        TypeError, ValueError: ``n`` is no integer, or below 1.
    """
    leaves = torch.arange(1, check_int("n", n, 1))
    return undirected(torch.stack([torch.zeros_like(leaves), leaves]))


def grid(rows: int, cols: int) -> Tensor:
    """Two-dimensional grid with 4 neighbours; node ``r * cols + c`` stands in row ``r``, column ``c``.

    Raises:
        TypeError, ValueError: ``rows`` or ``cols`` is no integer, or below 1.
    """
    cells = torch.arange(check_int("rows", rows, 1) * check_int("cols", cols, 1)).reshape(rows, cols)
    across = torch.stack([cells[:, :-1].flatten(), cells[:, 1:].flatten()])
    down = torch.stack([cells[:-1].flatten(), cells[1:].flatten()])
    return undirected(torch.cat([across, down], 1))


def binary_tree(depth: int) -> Tensor:
    """Complete binary tree of the given depth: ``2**(depth+1) - 1`` nodes, the root is node 0.

    Raises:
        TypeError, ValueError: ``depth`` is no integer, or negative.
    """
    children = torch.arange(1, 2 ** (check_int("depth", depth, 0) + 1) - 1)
    return undirected(torch.stack([(children - 1) // 2, children]))


def barbell(clique: int, bridge: int = 0) -> Tensor:
    """Two complete graphs of ``clique`` nodes joined by a path with ``bridge`` inner nodes (a bottleneck).

    Raises:
        TypeError, ValueError: ``clique`` is no integer or below 2, or ``bridge`` none or negative.
    """
    return _from_networkx(nx.barbell_graph(check_int("clique", clique, 2), check_int("bridge", bridge, 0)))


def caveman(caves: int, size: int) -> Tensor:
    """Connected caveman graph: ``caves`` cliques of ``size`` nodes on a ring (clear communities).

    Raises:
        TypeError, ValueError: ``caves`` or ``size`` is no integer, or below 2.
    """
    return _from_networkx(nx.connected_caveman_graph(check_int("caves", caves, 2), check_int("size", size, 2)))


def erdos_renyi(n: int, p: float, seed: int) -> Tensor:
    """Random graph: each of the ``n (n-1) / 2`` edges is there with probability ``p``. May be disconnected.

    Raises:
        TypeError, ValueError: ``n`` is no positive integer, ``p`` no probability, ``seed`` no non-negative integer.
    """
    if not isinstance(p, numbers.Real):
        raise TypeError(f"p must be a number; it was {p!r} of type {type(p).__name__}")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability between 0 and 1; it was {p}")
    return _from_networkx(nx.gnp_random_graph(check_int("n", n, 1), p, seed=check_int("seed", seed, 0)))
