r"""Jacobians of graph layers: one interface, three ways. Introduced in chapter 3.

With ``vec`` stacking columns, the layer-wise Jacobian is

.. math:: J = \partial \operatorname{vec}(H') / \partial \operatorname{vec}(H), \qquad (n d') \times (n d)

* **kronecker** — exact, for linear layers whose Jacobian is ``Σ_p M_pᵀ ⊗ S^p``; never forms ``J``;
* **dense** — ``J`` itself through :mod:`torch.func`, for graphs on which it fits into memory;
* **matrix-free** — products ``J v`` and ``Jᵀ u`` only, for anything callable: Lanczos for norms, stochastic Lanczos
  quadrature for spectral densities.

Every function takes ``layer(h, *graph)``: a layer of this package with ``graph = (S,)``, a torch-geometric
convolution with ``graph = (edge_index,)`` or ``(edge_index, edge_attr)``, or any function of a reader's own; what does not
take ``h`` first fits in as ``lambda h, edge_index: conv(h, h0, edge_index)``. Layers see a copy of ``h``, so one that works
in place changes nothing of yours. Put modules with dropout or batch norm into ``eval()`` first: the Jacobian is that of the
function as called. You are warned of dropout and batch norm in training mode, of a layer that draws random numbers and of a
module that changes its buffers; only what hides in a function goes unseen.

Arguments of a layer go by position. For one that takes them by name only, write
``lambda h, edge_index: conv(h, edge_index, edge_attr=edge_attr)``.
"""
from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy
from torch_geometric.nn import GCNConv, MessagePassing
from torch_geometric.nn import Linear as PyGLinear
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from tqdm.auto import tqdm

from .checks import check_choice, check_features, check_finite, check_int
from .device import get_rng_state
from .graphs import symmetric_eigen, to_dense
from .models.convolutions import is_linear
from .models.recurrence import GNNSSM

Layer = Callable[..., Tensor]
METHODS = ("auto", "kronecker", "dense")
ROWS_AT_ONCE = 64  # of a dense Jacobian: layers with n² messages need that many times their own memory
WITHOUT_GRAPH = (*(f"torch.nn.modules.{kind}" for kind in ("activation", "batchnorm", "dropout", "linear", "normalization")),
                 "torch_geometric.nn.dense.linear")
NORMS = "torch_geometric.nn.norm"
MAX_DENSE_ENTRIES = 2 ** 28  # 2 GiB in float64: beyond, the dense way is refused before the machine starts to swap
BASIS_BLOCK = 32  # Lanczos vectors that memory is taken for at a time: most runs stop long before their last step


def _check_input(h: Tensor) -> Tensor:
    check_finite("h", check_features(h))
    if h.dim() != 2:
        raise ValueError(f"h must have shape (nodes, features) for a Jacobian; its shape was {tuple(h.shape)}")
    if not h.numel():
        raise ValueError(f"h must have at least one node and one feature; its shape was {tuple(h.shape)}")
    return h.detach()


def call_layer(layer: Layer, h: Tensor, graph: tuple) -> Tensor:
    """``layer(h, *graph)`` on a copy of ``h``, as every function here calls a layer.

    Modules that know no graph (torch's activations, dropouts, norms and linear layers, torch-geometric's norms) are called
    as ``layer(h)``, and the members of a torch container one after another (:func:`parts_of`). A norm of torch-geometric
    gets ``graph`` if that is one vector of integers, an entry a node: the graph of each node, or its type.

    Raises:
        TypeError: ``layer`` is a class.
    """
    if isinstance(layer, type):
        raise TypeError(f"layer must be callable as layer(h, *graph); it was the class {layer.__name__} itself")
    parts = parts_of(layer)
    if parts is None:
        # A copy: a layer that works in place would change the caller's features, or those kept for the backward pass.
        return layer(h.clone(), *(() if _knows_no_graph(layer, h, graph) else graph))
    for part in parts:
        h = call_layer(part, h, graph)
    return h


def parts_of(layer: object) -> list | None:
    """The members of an ``nn.ModuleList`` or ``nn.Sequential`` without a ``forward`` of its own; ``None`` for all else."""
    container = isinstance(layer, (nn.ModuleList, nn.Sequential))
    return list(layer) if container and type(layer).forward in (nn.Module.forward, nn.Sequential.forward) else None


def _knows_no_graph(layer: Layer, h: Tensor, graph: tuple) -> bool:
    """By module, not by class: a reader's subclass may well take a graph."""
    module = type(layer).__module__
    if module.startswith(NORMS) and len(graph) == 1 and _one_integer_a_node(graph[0], h):
        return len(inspect.signature(layer.forward).parameters) < 2
    return module.startswith((*WITHOUT_GRAPH, NORMS))


def _one_integer_a_node(argument: object, h: Tensor) -> bool:
    return isinstance(argument, Tensor) and not argument.is_floating_point() and argument.shape == h.shape[:1]


def call_and_warn(layer: Layer, h: Tensor, graph: tuple, stacklevel: int) -> Tensor:
    """:func:`call_layer`; warns of a layer that draws random numbers or changes its buffers.

    Raises:
        TypeError: ``layer`` cannot be called.
    """
    if not callable(layer):
        raise TypeError(f"layer must be callable as layer(h, *graph); it was {type(layer).__name__}")
    known = bool(_training_modules(layer)) or _is_lazy(layer)  # a lazy layer draws its weights when it is first called
    before, buffers = get_rng_state(h.device), {} if known else _buffers(layer)
    kept = {name: buffer.clone() for name, buffer in buffers.items()}
    out = call_layer(layer, h, graph)
    if not known and not all(map(torch.equal, before, get_rng_state(h.device))):
        warnings.warn("layer draws random numbers, as dropout in training mode does, so the result is that of one random "
                      "pass; put it into eval() first", UserWarning, stacklevel=stacklevel)
    changed = [name for name, buffer in buffers.items() if not _same(buffer, kept[name])]
    if changed:
        warnings.warn(f"layer changed its buffers {', '.join(changed)}, as norms with running statistics do in training "
                      "mode, so the next call is that of another function; put it into eval() first", UserWarning,
                      stacklevel=stacklevel)
    return out


def _buffers(layer: Layer) -> dict[str, Tensor]:
    modules = [layer] if isinstance(layer, nn.Module) else list(_modules(layer))
    return {name: buffer for module in modules for name, buffer in module.named_buffers()
            if not is_lazy(buffer) and not buffer.is_meta and buffer.layout == torch.strided}


def _same(buffer: Tensor, before: Tensor) -> bool:
    """Also of buffers that hold NaN and stay."""
    return torch.equal(buffer, before) or buffer.shape == before.shape and bool(
        ((buffer == before) | (buffer.isnan() & before.isnan())).all())


def _apply(layer: Layer, h: Tensor, graph: tuple) -> Tensor:
    """:func:`call_and_warn`, refused unless it is a matrix over the same nodes without NaN."""
    out = call_and_warn(layer, h, graph, 5)
    if not isinstance(out, Tensor):
        raise TypeError(f"layer must return a torch.Tensor; it returned {type(out).__name__}")
    if out.dim() != 2 or out.shape[0] != h.shape[0]:
        raise ValueError(f"layer must return a matrix with the {h.shape[0]} rows of h; its shape was {tuple(out.shape)}")
    if not out.is_meta and out.isnan().any():
        raise ValueError(f"layer must return features without NaN; {int(out.isnan().sum())} of {out.numel()} were NaN "
                         "(NaN in its parameters or edge weights?)")
    return out


def warn_of_training(layer: Layer) -> None:
    """Warn of dropout and batch norm in training mode: each call would be another function."""
    if names := _training_modules(layer):
        warnings.warn(f"layer holds {', '.join(names)} in training mode, so the result is that of one random or batch-wise "
                      "pass, and running statistics move; put it into eval() first", UserWarning, stacklevel=3)


def _training_modules(layer: Layer) -> list[str]:
    return sorted({type(module).__name__ for module in _modules(layer) if module.training and _differs_in_training(module)})


def _modules(layer: Layer) -> Iterator[nn.Module]:
    """The modules of a layer, or of all layers of a composition."""
    if isinstance(layer, nn.Module):
        yield from layer.modules()
    else:
        for part in getattr(layer, "composed_of", ()):
            yield from _modules(part)


def _is_lazy(layer: Layer) -> bool:
    return any(is_lazy(parameter) for module in _modules(layer) for parameter in module.parameters(recurse=False))


def _differs_in_training(module: nn.Module) -> bool:
    rate = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0)  # as attention and GATConv have it
    return isinstance(module, _BatchNorm) or isinstance(rate, float) and rate > 0


def check_differentiable(layer: Layer, h: Tensor, out: Tensor, graph: tuple) -> None:
    """Refuse a layer whose output ``out`` moves with ``h`` while torch sees no path from one to the other.

    Under ``no_grad`` or behind ``detach`` every derivative would come out as 0. A layer that does not move is a constant,
    and 0 is right. ``h`` must require grad.

    Raises:
        ValueError: such a layer.
    """
    if _reaches(out, h):
        return
    away = torch.randn(h.shape, generator=probe_generator(0, h.device), dtype=h.dtype, device=h.device)
    with torch.no_grad():
        moved = call_layer(layer, h + away * (float(h.abs().max()) or 1.0), graph)
    if not torch.equal(moved, out):
        raise ValueError(_CUT)


def _reaches(out: Tensor, h: Tensor) -> bool:
    """Whether a path of torch's graph leads from ``out`` back to ``h``; it costs no product."""
    goal, seen, ahead = get_gradient_edge(h).node, set(), [out.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node == goal:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [before for before, _ in node.next_functions]
    return out is h


_CUT = "layer must depend on h through operations that torch differentiates; its output does not"


def compose(layers: Iterable[Layer]) -> Layer:
    """The composition ``f_K ∘ ... ∘ f_1`` of layers on the same graph, as one callable ``f(h, *graph)``.

    Torch's own activations, dropouts, norms and linear layers and torch-geometric's norms know no graph and are called as
    ``layer(h)``; an ``nn.Sequential`` of such modules may stand among them. A norm that can tell the graphs of a mini-batch
    apart takes all nodes for one graph then: write ``lambda h, edge_index: norm(h, batch)``. Write a function such as
    ``torch.relu`` as ``nn.ReLU()`` or ``lambda h, *graph: torch.relu(h)``. An error inside a layer comes with a note that
    says which.

    Raises:
        TypeError: ``layers`` is no list, or holds something that cannot be called. ValueError: no layers.
    """
    layers = _stack_of(layers)

    def composed(h: Tensor, *graph: Tensor) -> Tensor:
        for k, layer in enumerate(layers):
            with naming(k, layer):
                h = _apply(layer, h, graph)
        return h

    composed.composed_of = layers
    return composed


def _stack_of(layers: Iterable[Layer]) -> list[Layer]:
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of layers; it was one {type(layers).__name__} (for one layer: [layer])")
    layers = list(layers)
    if not layers:
        raise ValueError("layers must hold at least one layer; it was empty")
    return layers


@contextmanager
def naming(k: int, layer: Layer) -> Iterator[None]:
    """Add to an error which layer of a stack it came from."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This happened in layers[{k}], a {type(layer).__name__}.")
        raise


# ---------------------------------------------------------------- dense

@torch.inference_mode(False)
def layer_jacobian(layer: Layer, h: Tensor, *graph: Tensor) -> Tensor:
    r"""Dense Jacobian ``∂vec(H')/∂vec(H)`` by automatic differentiation, ``vec`` stacking columns.

    For a linear GCN layer it equals ``torch.kron(W.T.contiguous(), S)``.

    Args:
        layer: any callable ``layer(h, *graph)``. Sparse operators among ``graph`` are made dense here, but
            for torch-geometric's layers.
        h: ``(n, d)``, the point at which the Jacobian is taken; float64 for validating theory.
        graph: what the layer takes beside ``h``.

    Shapes:
        returns ``(n d', n d)``.

    Raises:
        TypeError: ``h`` or the layer's output is no floating-point tensor.
        ValueError: wrong shape, NaN, a layer that cuts gradients (``no_grad``, ``detach``), or a Jacobian too large to form
            (use :func:`spectral_density`).
    """
    h = _check_input(h)
    warn_of_training(layer)
    with torch.no_grad():
        out = _apply(layer, h, graph)
    if out.numel() * h.numel() > MAX_DENSE_ENTRIES:
        raise ValueError(f"the dense Jacobian would have {out.numel()} x {h.numel()} entries "
                         f"({out.numel() * h.numel() * h.element_size() / 2**30:.1f} GiB), more than {MAX_DENSE_ENTRIES}; "
                         "use spectral_density and spectral_norm, or singular_values(method='kronecker') for linear layers")
    _check_once(layer, h, graph)
    # Sparse products have no batching rule; torch-geometric would take a dense operator for an edge_index.
    dense = graph if _passes_messages(layer) else tuple(to_dense(g) if isinstance(g, Tensor) else g for g in graph)

    def transposed(columns: Tensor) -> Tensor:
        return call_layer(layer, columns.T, dense).T

    try:
        with torch.no_grad():  # else jacrev records a graph towards the parameters, and its memory grows with every row
            J = torch.func.jacrev(transposed, chunk_size=ROWS_AT_ONCE)(h.T.clone())
    except (RuntimeError, TypeError, ValueError, IndexError):
        # An operation without a batching rule, or one that wants the sparse operator: one product a row instead.
        J = _jacobian_by_rows(layer, h, graph)
    return J.reshape(out.numel(), h.numel()).detach()


def _passes_messages(layer: Layer) -> bool:
    """Whether the layer, or one inside it or in a composition, is torch-geometric's."""
    return any(isinstance(module, MessagePassing) for module in _modules(layer))


def _check_once(layer: Layer, h: Tensor, graph: tuple) -> None:
    """:func:`check_differentiable` on a pass of its own: torch.func takes a layer that cuts gradients for a constant."""
    h = h.clone().requires_grad_(True)
    with torch.enable_grad():
        check_differentiable(layer, h, call_layer(layer, h, graph), graph)


def _jacobian_by_rows(layer: Layer, h: Tensor, graph: tuple) -> Tensor:
    columns = h.T.clone().requires_grad_(True)
    with torch.enable_grad():
        out = call_layer(layer, columns.T, graph).T.reshape(-1)
        if not out.requires_grad:
            return h.new_zeros(out.numel(), h.numel())
        rows = [torch.autograd.grad(y, columns, retain_graph=True, allow_unused=True)[0] for y in out]
    return torch.stack([torch.zeros_like(columns) if row is None else row for row in rows])


def product_jacobian(layers: Iterable[Layer], h: Tensor, *graph: Tensor) -> Tensor:
    r"""Dense product Jacobian ``J = J_K ... J_1`` of a stack of layers, each at the features that reach it (Eq. 6).

    Args, Raises: as :func:`layer_jacobian`, with a list of ``layers`` as in :func:`compose`.

    Shapes:
        returns ``(n d_K, n d_0)``.
    """
    return layer_jacobian(compose(layers), h, *graph)


# ---------------------------------------------------------------- Kronecker

def kronecker_terms(layer: Layer) -> dict[int, Tensor] | None:
    r"""The matrices ``M_p`` of a layer that is linear, ``H' = Σ_p S^p H M_p``; ``None`` if it is not of that form.

    Its Jacobian is ``Σ_p M_pᵀ ⊗ S^p``. A layer of one's own takes part by a method ``kronecker_terms()``, defined in the
    class that defines its ``forward``; an attribute ``activation``, if it has one, must be the identity. A layer with
    forward hooks, or a ``GCNConv`` that does not sum over neighbours, is not of the form.
    """
    if isinstance(layer, nn.Module) and _is_altered(layer):
        return None
    # Exact types: a subclass may compute something else in its own forward.
    if type(layer) is nn.Linear:
        return {0: layer.weight.detach().T}
    if type(layer) is GCNConv:
        return {1: layer.lin.weight.detach().T} if layer.aggr in ("add", "sum") and type(layer.lin) is PyGLinear else None
    if not _knows_its_terms(layer) or (hasattr(layer, "activation") and not is_linear(layer)):
        return None
    terms = layer.kronecker_terms()
    return None if terms is None else {power: matrix.detach() for power, matrix in terms.items()}


def _is_altered(layer: nn.Module) -> bool:
    """Whether a hook or a ``forward`` of its own changes what this module, or one in it, computes."""
    # By name: torch keeps four dictionaries of forward hooks in a module, torch-geometric ten more.
    return any("forward" in vars(module) or any(hooks for name, hooks in vars(module).items()
                                                if "_forward" in name and "_hooks" in name) for module in layer.modules())


def _knows_its_terms(layer: Layer) -> bool:
    """Whether ``kronecker_terms`` was written for the ``forward`` that runs, not for one that a subclass replaced."""
    owner = {name: next((i for i, cls in enumerate(type(layer).__mro__) if name in vars(cls)), None)
             for name in ("kronecker_terms", "forward", "__call__")}
    if owner["kronecker_terms"] is None:
        return False
    runs = "forward" if owner["forward"] is not None else "__call__"
    return owner[runs] is not None and owner["kronecker_terms"] <= owner[runs]


def _operator(layer: Layer, h: Tensor, graph: tuple) -> Tensor | None:
    """The matrix ``S`` that the layer applies; ``None`` if it is not to be had, as from an ``edge_index``."""
    conv = layer.coupling if isinstance(layer, GNNSSM) else layer
    if not graph or not isinstance(graph[0], Tensor):
        return None
    S = _pyg_operator(conv, h, *graph) if type(conv) is GCNConv else graph[0]
    return S if S is not None and S.is_floating_point() and S.shape == (h.shape[0], h.shape[0]) else None


def _pyg_operator(conv: GCNConv, h: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor | None:
    """The operator of a torch-geometric ``GCNConv`` in float64, from the library's own normalisation."""
    if edge_index.layout != torch.strided:
        return None
    weight = None if edge_weight is None else edge_weight.double()
    if conv.normalize and conv._cached_edge_index is not None:  # then it looks at no other graph
        edge_index, weight = conv._cached_edge_index
        weight = weight.double()
    elif conv.normalize:
        edge_index, weight = gcn_norm(edge_index, weight, h.shape[0], conv.improved, conv.add_self_loops, conv.flow,
                                      dtype=torch.float64)
    if weight is None:
        weight = torch.ones(edge_index.shape[1], dtype=torch.float64, device=h.device)
    senders, receivers = edge_index if conv.flow == "source_to_target" else edge_index.flip(0)
    S = torch.zeros(h.shape[0], h.shape[0], dtype=torch.float64, device=h.device)
    return S.index_put_((receivers, senders), weight, accumulate=True)


def _is_symmetric(S: Tensor) -> bool:
    dense = to_dense(S)
    return bool(torch.allclose(dense, dense.T, rtol=0, atol=1e-6 * max(1.0, float(dense.abs().max()))))


def _kronecker_parts(layer: Layer, h: Tensor, graph: tuple) -> tuple[dict[int, Tensor], Tensor] | None:
    with torch.no_grad():  # what the layer itself refuses is refused here too; lazy layers come by their weights
        out = _apply(layer, h, graph)
    terms = kronecker_terms(layer)
    if terms is None:
        return None
    if h.shape[0] ** 2 > MAX_DENSE_ENTRIES:
        raise ValueError(f"h must have at most {math.isqrt(MAX_DENSE_ENTRIES)} nodes for the eigenvalues of an operator; "
                         f"it had {h.shape[0]} (spectral_density and spectral_norm serve larger graphs)")
    S = torch.eye(h.shape[0], device=h.device) if set(terms) == {0} else _operator(layer, h, graph)
    if S is None:
        return None
    terms, S = {power: matrix.double() for power, matrix in terms.items()}, S.detach().double()
    return (terms, S) if _differences_agree(layer, h, graph, out, terms, S) else None


def _differences_agree(layer: Layer, h: Tensor, graph: tuple, out: Tensor, terms: dict[int, Tensor], S: Tensor) -> bool:
    """Whether ``layer(h + v) - layer(h) = Σ_p S^p v M_p`` up to rounding, for one random ``v`` of the size of ``h``.

    One more forward pass beside an eigenvalue problem, against layers that compute something else than they say.
    """
    v = torch.randn(h.shape, generator=probe_generator(0, h.device), dtype=h.dtype, device=h.device)
    moved = h + v * (float(h.abs().max()) or 1.0)
    with torch.no_grad():
        there = call_layer(layer, moved, graph).double()
    power, expected, carried = 0, 0.0, (moved - h).double()  # the difference as rounded
    for p in sorted(terms):
        for _ in range(p - power):
            carried = S @ carried
        power, expected = p, expected + carried @ terms[p]
    size = float(out.abs().max()) + float(there.abs().max())
    # The square root is far above rounding, of sums over thousands of neighbours too, and far below a wrong layer.
    return float((there - out.double() - expected).abs().max()) <= 4 * torch.finfo(h.dtype).eps ** 0.5 * size


def _blocks(terms: dict[int, Tensor], eigenvalues: Tensor) -> Tensor:
    """``Σ_p λ_i^p M_p`` for every eigenvalue, ``(n, d, d')``: in the eigenbasis of ``S`` the Jacobian is block-diagonal."""
    return sum(eigenvalues[:, None, None] ** power * matrix.to(eigenvalues.dtype) for power, matrix in terms.items())


def _all_eigenvalues(S: Tensor) -> Tensor:
    return torch.cat([values for _, values, _ in symmetric_eigen(S, vectors=False)])


def _kronecker_singular_values(terms: dict[int, Tensor], S: Tensor) -> Tensor | None:
    symmetric = _is_symmetric(S)
    if len(terms) > 1:
        # Several powers share an orthogonal eigenbasis only if S is symmetric.
        return torch.linalg.svdvals(_blocks(terms, _all_eigenvalues(S))).reshape(-1) if symmetric else None
    (power, matrix), = terms.items()
    if symmetric:
        of_operator = _all_eigenvalues(S).abs() ** power
    else:
        of_operator = torch.linalg.svdvals(torch.linalg.matrix_power(to_dense(S), power))
    return torch.outer(of_operator, torch.linalg.svdvals(matrix)).reshape(-1)


def _choose(method: str, layer: Layer, h: Tensor, graph: tuple) -> tuple[dict[int, Tensor], Tensor] | None:
    check_choice("method", method, METHODS)
    parts = None if method == "dense" else _kronecker_parts(layer, h, graph)
    if parts is None and method == "kronecker":
        raise ValueError(f"method 'kronecker' needs a linear layer of the form Σ S^p H M_p, and its S; layer was {layer!r}")
    return parts


def singular_values(layer: Layer, h: Tensor, *graph: Tensor, method: str = "auto") -> Tensor:
    r"""All singular values of the layer-wise Jacobian, descending, in float64.

    A linear GCN layer has ``|λ_i| √μ_j`` with ``λ_i`` the eigenvalues of ``Â`` and ``μ_j`` those of ``W Wᵀ``
    (Lemma 3.1); a linear GNN-SSM has those of the blocks ``Λ + λ_i W B``, one block for each ``λ_i``.

    Args:
        layer, h, graph: as :func:`layer_jacobian`.
        method: ``"kronecker"`` never forms ``J`` and needs a linear layer; ``"dense"`` forms ``J``; ``"auto"`` takes the
            first that applies.

    The Kronecker way takes ``O(n³ + n d³)`` operations, the dense one ``O((n d)³)``.

    Shapes:
        returns ``(n min(d, d'),)``: as many as a ``(n d') x (n d)`` matrix has.

    Raises:
        TypeError, ValueError: as :func:`layer_jacobian`; an unknown method; a layer that is not linear with ``"kronecker"``.
    """
    h = _check_input(h)
    parts = _choose(method, layer, h, graph)
    values = None if parts is None else _kronecker_singular_values(*parts)
    if values is None and method == "kronecker":
        raise ValueError("method 'kronecker' needs a symmetric S when the layer has more than one term; "
                         "max |S - Sᵀ| was above 1e-6")
    if values is None:
        values = torch.linalg.svdvals(_finite(layer_jacobian(layer, h, *graph).double()))
    return torch.sort(values, descending=True).values


def _finite(J: Tensor) -> Tensor:
    """``J``; refused if it is not finite, on which LAPACK does not fail but ends the process."""
    bad = int((~J.isfinite()).sum())
    if bad:
        raise ValueError(f"layer must have a finite Jacobian at h; {bad} of its {J.numel()} entries were NaN or infinite")
    return J


def eigenvalues(layer: Layer, h: Tensor, *graph: Tensor, method: str = "auto") -> Tensor:
    r"""All ``n d`` eigenvalues of a square layer-wise Jacobian, complex128, by descending modulus.

    For ``H' = Σ_p S^p H M_p`` they are those of the ``n`` small matrices ``Σ_p λ_i^p M_p`` (a Schur form of ``S``
    makes the Jacobian block-triangular, so ``S`` need not be symmetric).

    Args, Raises: as :func:`singular_values`; ValueError for a layer that changes the width.

    Shapes:
        returns ``(n d,)``.
    """
    h = _check_input(h)
    parts = _choose(method, layer, h, graph)
    if parts is None:
        J = layer_jacobian(layer, h, *graph).double()
        if J.shape[0] != J.shape[1]:
            raise ValueError(f"layer must keep the width for eigenvalues; its Jacobian has shape {tuple(J.shape)}")
        values = torch.linalg.eigvals(_finite(J))
    else:
        terms, S = parts
        of_operator = _all_eigenvalues(S) if _is_symmetric(S) else torch.linalg.eigvals(to_dense(S))
        blocks = _blocks(terms, of_operator)
        if blocks.shape[-1] != blocks.shape[-2]:
            raise ValueError(f"layer must keep the width for eigenvalues; its matrices have shape {tuple(blocks.shape[1:])}")
        values = torch.linalg.eigvals(_finite(blocks)).reshape(-1)
    return values[torch.argsort(values.abs(), descending=True)]


# ---------------------------------------------------------------- matrix-free

class JacobianProduct:
    r"""The Jacobian of ``layer`` at ``h`` as a linear map, through products only.

    ``jvp(v)`` is ``J v`` and ``vjp(u)`` is ``Jᵀ u``, for matrices ``v`` shaped like ``h`` and ``u`` like the output.
    The forward pass runs once. ``J v`` comes from differentiating the reverse pass, so that it works for every operation
    that torch can differentiate twice, sparse products, scatters and attention included. A layer that is constant around
    ``h`` has the Jacobian 0.

    Raises:
        TypeError, ValueError: as :func:`layer_jacobian`.
    """

    @torch.inference_mode(False)
    def __init__(self, layer: Layer, h: Tensor, *graph: Tensor) -> None:
        self._h = _check_input(h).clone().requires_grad_(True)
        warn_of_training(layer)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # torch cannot differentiate its fused attention twice
            self._out = _apply(layer, self._h, graph)
            check_differentiable(layer, self._h, self._out, graph)
            self._u = torch.zeros_like(self._out, requires_grad=True)
            self._pulled = torch.zeros_like(self._h)
            if self._out.requires_grad:
                self._pulled, = torch.autograd.grad(self._out, self._h, self._u, create_graph=True, materialize_grads=True)
        self.in_shape, self.out_shape = self._h.shape, self._out.shape

    @torch.inference_mode(False)
    def jvp(self, v: Tensor) -> Tensor:
        """``J v``, shaped like the output."""
        if not self._pulled.requires_grad:
            return torch.zeros_like(self._u)
        return torch.autograd.grad(self._pulled, self._u, v, retain_graph=True, materialize_grads=True)[0]

    @torch.inference_mode(False)
    def vjp(self, u: Tensor) -> Tensor:
        """``Jᵀ u``, shaped like ``h``."""
        if not self._out.requires_grad:
            return torch.zeros_like(self._h)
        return torch.autograd.grad(self._out, self._h, u, retain_graph=True, materialize_grads=True)[0]

    def _smaller(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor]:
        """The two products of the smaller Gram matrix, in order, and a tensor shaped like what the first one takes."""
        if self._h.numel() <= self._out.numel():
            return self.jvp, self.vjp, self._h
        return self.vjp, self.jvp, self._out

    def smaller_gram(self, scale: float = 1.0) -> tuple[Callable[[Tensor], Tensor], int]:
        """``v -> Jᵀ J v / scale²`` or ``v -> J Jᵀ v / scale²`` on flat vectors, whichever is smaller, and its size.

        A ``scale`` near ``‖J‖`` keeps the second product from leaving the range of the layer's dtype.
        """
        first, second, like = self._smaller()

        def gram(v: Tensor) -> Tensor:
            return (second(first(v.view_as(like).to(like.dtype)) / scale) / scale).reshape(-1)

        return gram, like.numel()

    def scale(self, seed: int = 0) -> float:
        """A power of two next to the largest entry of ``J v`` for a random unit vector ``v``; 1 if ``J`` is 0.

        A power of two, so that dividing by it rounds nothing. Raises ValueError if the dtype cannot hold ``J v``.
        """
        first, _, like = self._smaller()
        v = torch.randn(like.shape, generator=probe_generator(seed, like.device), dtype=like.dtype, device=like.device)
        v, limits = v / v.norm(), torch.finfo(like.dtype)
        largest = float(first(v).abs().max())
        if not math.isfinite(largest):
            raise _out_of_range("finite products", f"in {like.dtype} some were not", like.dtype)
        if largest < limits.tiny:  # does a longer v say that J is not 0?
            if largest > 0 or float(first(v * limits.max ** 0.5).abs().max()) > 0:
                raise _out_of_range(f"entries that {like.dtype} can hold", f"the largest of a product was {largest:.3g}",
                                    like.dtype)
            return 1.0
        return math.ldexp(1.0, math.frexp(largest)[1] - 1)


def _out_of_range(what: str, found: str, dtype: torch.dtype) -> ValueError:
    hint = "" if dtype == torch.float64 else " (layer.double() and h.double() reach farther)"
    return ValueError(f"layer must have a Jacobian with {what}; {found}{hint}")


def _lanczos(matvec: Callable[[Tensor], Tensor], start: Tensor, steps: int, stop: Callable | None = None) -> Tensor:
    """Tridiagonal matrix of the Lanczos process with full reorthogonalisation, as float64 on CPU.

    The process runs in float64 on ``start``'s device, whatever the dtype of ``matvec``.
    ``stop(T, beta)`` is asked after every fifth step and the last, and ends the process when it returns true.
    """
    steps, dtype, start = min(steps, start.numel()), start.dtype, start.double()
    basis = start.new_empty(0, start.numel())
    q, alphas, betas = start / start.norm(), [], []
    for step in range(steps):
        if step == len(basis):
            basis = torch.cat([basis, start.new_empty(min(BASIS_BLOCK, steps - step), start.numel())])
        basis[step] = q
        w = matvec(q).double()
        alphas.append(float(w @ q))
        Q = basis[:step + 1]
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            w = w - (Q @ w) @ Q
        beta = float(w.norm())
        if not math.isfinite(beta):
            raise _out_of_range("finite products", "some were not", dtype)
        scale = max(map(abs, alphas + betas), default=0.0)
        T = _tridiagonal(alphas, betas)
        ask = stop is not None and ((step + 1) % 5 == 0 or step + 1 == steps)
        if (ask and stop(T, beta)) or beta <= 1e-12 * scale:
            return T
        betas.append(beta)
        q = w / beta
    return T


def _tridiagonal(alphas: list[float], betas: list[float]) -> Tensor:
    off = torch.tensor(betas, dtype=torch.float64)
    return torch.diag(torch.tensor(alphas, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)


def probe_generator(seed: int, device: torch.device) -> torch.Generator:
    """A generator of probes for ``seed``, from a stream of its own.

    Features often come from ``manual_seed(0)``, too. Probes from the same stream would be the features themselves, and
    a quadrature along the features says nothing about the other directions.

    Raises:
        TypeError, ValueError: ``seed`` is no non-negative integer.
    """
    return torch.Generator(device=device).manual_seed((check_int("seed", seed, 0) + 1) * 0x9E3779B97F4A7C15 % 2 ** 63)


def spectral_norm(layer: Layer, h: Tensor, *graph: Tensor, tol: float = 1e-6, max_steps: int = 500, seed: int = 0) -> float:
    r"""Largest singular value ``‖J‖₂`` of the layer-wise Jacobian, matrix-free, by Lanczos on ``Jᵀ J``.

    Args:
        layer, h, graph: as :func:`layer_jacobian`; sparse operators stay sparse.
        tol: relative residual of the eigenpair of ``Jᵀ J`` at which to stop.
        max_steps: products with ``Jᵀ J`` at the most. Each step taken keeps one float64 vector of the size of ``h``.
        seed: of the random start vector.

    Raises:
        TypeError, ValueError: as :class:`JacobianProduct`; entries of ``J`` that the dtype of ``h`` cannot hold.
        RuntimeError: no convergence within ``max_steps``.
    """
    if not 0 < tol < 1:
        raise ValueError(f"tol must lie between 0 and 1; it was {tol}")
    product = JacobianProduct(layer, h, *graph)
    scale = product.scale(seed)
    gram, size = product.smaller_gram(scale)
    start = torch.randn(size, generator=probe_generator(seed, h.device), dtype=h.dtype, device=h.device)
    residual = math.inf

    def converged(T: Tensor, beta: float) -> bool:
        nonlocal residual
        values, vectors = torch.linalg.eigh(T)
        residual = beta * float(vectors[-1, -1].abs()) / max(float(values[-1]), 1e-300)
        return residual <= tol

    max_steps = check_int("max_steps", max_steps, 1)
    T = _lanczos(gram, start, max_steps, converged)
    if len(T) == min(max_steps, size) and len(T) < size and residual > tol:
        raise RuntimeError(f"Lanczos did not reach tol = {tol} in max_steps = {max_steps}; its residual was {residual:.2g}")
    return scale * math.sqrt(max(float(torch.linalg.eigvalsh(T)[-1]), 0.0))


@dataclass(frozen=True)
class SpectralDensity:
    """A discrete approximation of the distribution of a Jacobian's squared singular values.

    Attributes:
        nodes: ascending squared singular values at which mass sits, float64.
        weights: their masses, summing to 1.
        count: how many singular values the Jacobian has.
    """

    nodes: np.ndarray
    weights: np.ndarray
    count: int

    @property
    def singular_values(self) -> np.ndarray:
        """The nodes as singular values."""
        return np.sqrt(self.nodes)

    def moment(self, order: int) -> float:
        """``E[γ^order]`` of the squared singular values ``γ``."""
        return float(self.weights @ self.nodes ** order)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Share of squared singular values at most ``x``."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.weights)])
        return cumulative[np.searchsorted(self.nodes, np.asarray(x), side="right")]

    def histogram(self, bins: np.ndarray) -> np.ndarray:
        """Density in each bin of squared singular values, as ``numpy.histogram(..., density=True)`` gives it."""
        return np.histogram(self.nodes, bins=bins, weights=self.weights, density=True)[0]

    def wasserstein(self, squared_singular_values: Tensor | np.ndarray) -> float:
        """Wasserstein-1 distance to a sample of squared singular values, in their units."""
        from scipy.stats import wasserstein_distance

        other = np.asarray(torch.as_tensor(squared_singular_values).detach().cpu(), dtype=float)
        return float(wasserstein_distance(self.nodes, other, u_weights=self.weights))


def spectral_density(layer: Layer, h: Tensor, *graph: Tensor, num_probes: int = 6, num_steps: int = 60, seed: int = 0,
                     progress: bool = False) -> SpectralDensity:
    r"""Distribution of the squared singular values of the layer-wise Jacobian, matrix-free.

    Stochastic Lanczos quadrature: from a random vector ``z``, ``m`` Lanczos steps on ``Jᵀ J`` give the ``m``-point Gauss
    quadrature of the spectral measure of ``z``; its average over random ``z`` is the spectral density. The cost is
    ``num_probes * num_steps`` products with ``Jᵀ J``, the memory ``num_steps`` vectors of the size of ``h``.

    Args:
        layer, h, graph: as :func:`layer_jacobian`; sparse operators stay sparse.
        num_probes: random vectors; the sampling error falls with ``1/√(num_probes n d)``.
        num_steps: quadrature points ``m``; the resolution is about the range over ``m``.
        seed: of the random vectors.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: as :func:`spectral_norm`; numbers below 1.

    Source: Ubaru, Chen & Saad (2017).
    """
    num_probes, num_steps = check_int("num_probes", num_probes, 1), check_int("num_steps", num_steps, 1)
    product = JacobianProduct(layer, h, *graph)
    scale = product.scale(seed)
    if not sys.float_info.min <= scale * scale < math.inf:
        raise ValueError("layer must have a Jacobian whose squared singular values float64 can hold; "
                         f"the singular values were of size {scale:.3g}")
    gram, size = product.smaller_gram(scale)
    generator = probe_generator(seed, h.device)
    nodes, weights = [], []
    for _ in tqdm(range(num_probes), desc="spectral density", disable=not progress):
        probe = torch.randn(size, generator=generator, dtype=h.dtype, device=h.device)
        values, vectors = torch.linalg.eigh(_lanczos(gram, probe, num_steps))
        nodes.append(values.clamp(min=0))  # rounding can push a zero eigenvalue of JᵀJ just below 0
        weights.append(vectors[0] ** 2 / num_probes)
    nodes, weights = scale * scale * torch.cat(nodes).numpy(), torch.cat(weights).numpy()
    order = np.argsort(nodes)
    return SpectralDensity(nodes[order], weights[order] / weights.sum(), size)


@torch.inference_mode(False)
def gradient_norms(layers: Iterable[Layer], h: Tensor, *graph: Tensor, seed: int = 0) -> Tensor:
    r"""Norms of a gradient as it is propagated back through a stack of layers (Eq. 5, chapter 2).

    .. math:: g_K = \text{random unit vector}, \qquad g_{k-1} = J_k^\top g_k, \qquad \text{returns } \|g_k\|

    Args:
        layers, h, graph: as :func:`product_jacobian`.
        seed: of the random gradient at the output.

    Shapes:
        returns ``(K + 1,)``: entry ``k`` is the norm of the gradient with respect to ``H^{(k)}``; the last is 1.

    Raises:
        TypeError, ValueError: as :func:`product_jacobian`; which layer it was stands in a note of the error.
    """
    layers, states = _stack_of(layers), [_check_input(h).clone().requires_grad_(True)]
    warn_of_training(compose(layers))
    with torch.enable_grad():
        for k, layer in enumerate(layers):
            with naming(k, layer):
                out = _apply(layer, states[-1], graph)
                check_differentiable(layer, states[-1], out, graph)
            states.append(out if out.requires_grad else out.clone().requires_grad_(True))  # a constant: no gradient passes
    gradient = torch.randn(states[-1].shape, generator=probe_generator(seed, h.device), dtype=h.dtype, device=h.device)
    gradients = torch.autograd.grad(states[-1], states[:-1], gradient / gradient.norm(), allow_unused=True)
    norms = [h.new_zeros((), dtype=torch.float64) if g is None else torch.linalg.vector_norm(g, dtype=torch.float64)
             for g in gradients]  # squares of float32 leave its range long before the gradient does
    return torch.stack([*norms, torch.ones_like(norms[0])]).to(h.dtype).detach()
