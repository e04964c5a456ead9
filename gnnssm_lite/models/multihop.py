r"""Layers that reach beyond one hop, and back in time. Introduced in chapter 8.

A layer with delay reads features of earlier layers. Its state is therefore the features of the last ``M`` layers side
by side, ``[H_t | H_{t-1} | ... | H_{t-M+1}]``: with that state it is an ordinary layer ``state -> state``, and, when
linear, one multiplication by a block companion matrix (:func:`delay_state_space`).
"""
from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_edge_index, check_int, under_autocast
from ..graphs import OPERATORS, batch_operator, khop_shells, normalized_adjacency, to_dense
from .convolutions import Activation, GraphLayer, check_input, is_linear


def shell_operators(edge_index: Tensor, num_nodes: int, max_hops: int, layout: str = "dense",
                    dtype: torch.dtype = torch.float32, complete: bool = False,
                    self_loops: bool = True, kind: str = "normalized") -> list[Tensor]:
    r"""One operator for each distance ``k = 1 .. max_hops``, normalised unless ``kind`` says otherwise.

    .. math:: S_k = \tilde D_k^{-1/2} (A_k + I) \tilde D_k^{-1/2}, \qquad (A_k)_{uv} = 1 \text{ if } d(u, v) = k

    ``S_1 = Â``. The list ends early at the graph's diameter: a distance that no pair of nodes has gives no operator, as
    in the public code of DRew.

    Args:
        edge_index, num_nodes: an undirected graph. max_hops: the largest ``k``.
        layout, dtype: as :func:`gnnssm_lite.graphs.normalized_adjacency`.
        complete: go on to ``max_hops``, with ``S_k = I`` (self-loops alone; zero for other kinds) beyond the diameter.
            Networks do, so that a graph gives the same output alone and among graphs of larger diameter.
        self_loops: as in the formula; without, ``S_k = D_k^{-1/2} A_k D_k^{-1/2}``. Other kinds have none.
        kind: ``"normalized"`` as above; ``"adjacency"``: ``S_k = A_k``, the plain sum over the nodes at distance ``k``
            of Eq. (21); ``"mean"``: ``D_k^{-1} A_k``.

    Raises:
        TypeError, ValueError: as :func:`gnnssm_lite.graphs.khop_shells`; an unknown kind.

    Source: the graph convolution of DRew-GCN, Gutteridge et al. (2023).
    """
    check_choice("kind", kind, tuple(OPERATORS))
    check_edge_index(edge_index, num_nodes)
    proper = edge_index[:, edge_index[0] != edge_index[1]]
    shells = khop_shells(proper, num_nodes, max_hops)
    make = functools.partial(normalized_adjacency, self_loops=self_loops) if kind == "normalized" else OPERATORS[kind]
    return [make(shell, num_nodes, layout, dtype) for shell in shells if complete or shell.numel()]


def batch_shell_operators(distance: Tensor, max_hops: int, dtype: torch.dtype = torch.float32,
                          kind: str = "normalized") -> list[Tensor]:
    """:func:`shell_operators` of many graphs of one size at once, from their hop distances.

    A graph without any pair at distance ``k`` has ``S_k = I`` there (zero for kinds other than ``"normalized"``); all
    ``max_hops`` operators are returned.

    Args:
        distance: ``(..., n, n)`` hop distances; unreachable pairs hold anything that is no distance (-1, inf).
        max_hops, dtype, kind: as :func:`shell_operators`.

    Shapes:
        returns ``max_hops`` tensors ``(..., n, n)``.

    Raises:
        TypeError, ValueError: ``max_hops`` is no positive integer; ``distance`` no tensor, or not symmetric; ``dtype`` no
            floating-point dtype; an unknown kind.
    """
    hops = range(1, check_int("max_hops", max_hops, 1) + 1)
    if not isinstance(distance, Tensor):
        raise TypeError(f"distance must be a torch.Tensor; it was {type(distance).__name__}")
    return [batch_operator(kind, (distance == k).to(dtype)) for k in hops]


class kGCN(GraphLayer):  # noqa: N801 - the model's name in the paper
    r"""A graph convolution on the nodes at distance exactly ``k`` (Eq. 21, chapter 9).

    .. math::
        H' = \sigma(S_k X W), \qquad S_k = \tilde D_k^{-1/2} (A_k + I) \tilde D_k^{-1/2}, \qquad
        X = H \text{ or } H^{(0)}

    With ``shell="adjacency"``, ``S_k = A_k``: the plain sum of Eq. (21), with σ around it. Layer ``k`` of a network takes
    ``hop=k``, so that ``K`` layers look at ``K`` distances once each. As the coupling of a
    :class:`~gnnssm_lite.models.recurrence.GNNSSM` it is the paper's kGCN-SSM.

    Args:
        in_dim, out_dim, activation: as :class:`~gnnssm_lite.models.convolutions.GCN`.
        hop: the distance ``k``, at least 1.
        source: ``"state"``: neighbours send what they hold now (``X = H``); ``"input"``: what they held at the start
            (``X = H^{(0)}``). The paper's Eq. (21) leaves both readings open; the public code of the follow-up gLSTM sends
            the state, recurrent distance filtering (Ding et al., 2024) the input.
        shell: which operators the layer is to be given, a ``kind`` of :func:`shell_operators`; networks ask for it. Eq.
            (21) sums, the public code of DRew and of gLSTM normalises.

    Shapes:
        ``h``: ``(..., n, d)``; ``shells``: the operators ``S_1, S_2, ...`` (:func:`shell_operators`), each
        ``(..., n, n)``; ``h0``: ``(..., n, d)``, needed for ``source="input"`` only; returns ``(..., n, d')``. Beyond the
        last shell no node has anybody at distance ``k``: there ``S_k = I``, or zero without self-loops.

    Raises:
        TypeError, ValueError: numbers out of range, an unknown source, shells that do not fit ``h``, a missing ``h0``.

    Source: section 5.2 and appendix B of the paper.
    """

    operator = "shells"

    def __init__(self, in_dim: int, out_dim: int, activation: str | Activation | None = "relu", hop: int = 1,
                 source: str = "state", shell: str = "normalized") -> None:
        super().__init__(in_dim, out_dim, activation)
        self.hop, self.source = check_int("hop", hop, 1), check_choice("source", source, ("state", "input"))
        self.shell = check_choice("shell", shell, tuple(OPERATORS))
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        nn.init.xavier_uniform_(self.weight)

    @property
    def hops(self) -> int:
        """The farthest shell that the layer reads."""
        return self.hop

    @property
    def needs_initial(self) -> bool:
        """Whether the layer takes ``H^{(0)}`` as a last argument."""
        return self.source == "input"

    def forward(self, h: Tensor, shells: Sequence[Tensor], h0: Tensor | None = None) -> Tensor:
        _check_shells(h, shells, self.in_dim, self.weight)
        if self.needs_initial and (h0 is None or h0.shape != h.shape):
            raise ValueError(f"h0 must have the shape of h, {tuple(h.shape)}, when source = 'input'; "
                             f"it was {None if h0 is None else tuple(h0.shape)}")
        z = (h0 if self.needs_initial else h) @ self.weight
        if self.hop <= len(shells):
            return self.activation(shells[self.hop - 1] @ z)
        return self.activation(z if self.shell == "normalized" else torch.zeros_like(z))

    def extra_repr(self) -> str:
        return f"{self.in_dim}, {self.out_dim}, hop={self.hop}, source={self.source!r}, shell={self.shell!r}"


class DelayGCN(GraphLayer):
    r"""A multi-hop graph convolution with delay, as a layer on the state ``[H_t | H_{t-1} | ...]``.

    .. math::
        H_{t+1} = r\, H_t + \sigma\Big(\sum_{k=1}^{K} S_k H_{t - \tau_\nu(k)} W_k\Big), \qquad
        \tau_\nu(k) = \max(0, k - \nu)

    From features at distance ``k`` it reads what they were ``τ_ν(k)`` layers ago. Features from before the first layer
    are zero: with ``ν = 1`` that alone reproduces DRew's schedule, in which layer ``t`` sees ``t + 1`` hops.

    Args:
        dim: feature width ``d``.
        hops: ``K``.
        nu: ``ν``, at least 1; ``None`` (infinity) for no delay, 1 for full delay.
        memory: number ``M`` of feature matrices in the state; as many as the delays need if ``None``.
        residual: ``r``, 1 for DRew, 0 for a plain convolution (any finite number).
        activation: σ.

    Shapes:
        ``h``, the state: ``(..., n, M d)``; ``shells``: the operators ``S_1, S_2, ...``, each ``(..., n, n)``, dense or
        sparse; those beyond ``K`` are ignored, missing ones count as zero. Returns ``(..., n, M d)``. ``lift`` puts
        zeros behind the features, ``readout`` gives ``H_t``.

    Raises:
        TypeError, ValueError: numbers out of range, a memory shorter than the delays, shells that do not fit ``h``.

    Left out of DRew: the activation (and, where asked for, batch normalisation) of every term before the sum,
    l2-normalisation, and trained weights of the hops. Its public code has ReLU for σ.

    Source: Gutteridge et al. (2023), "DRew: dynamically rewired message passing with delay".
    """

    operator = "shells"

    def __init__(self, dim: int, hops: int, nu: int | None = 1, memory: int | None = None, residual: float = 1.0,
                 activation: str | Activation | None = "relu") -> None:
        self_dim, hops = check_int("dim", dim, 1), check_int("hops", hops, 1)
        nu = None if nu is None or nu == math.inf else check_int("nu", nu, 1)
        delays = [0 if nu is None else max(0, k - nu) for k in range(1, hops + 1)]
        memory = 1 + max(delays) if memory is None else check_int("memory", memory, 1)
        if memory <= max(delays):
            raise ValueError(f"memory must be at least {1 + max(delays)} for hops = {hops} and nu = {nu}; "
                             f"it was {memory}")
        if not math.isfinite(residual):
            raise ValueError(f"residual must be a finite number; it was {residual}")
        super().__init__(memory * self_dim, memory * self_dim, activation)
        self.dim, self.hops, self.nu, self.memory, self.residual = self_dim, hops, nu, memory, float(residual)
        self.delays = delays
        self.weight = nn.Parameter(torch.empty(hops, dim, dim))
        for weight in self.weight:
            nn.init.xavier_uniform_(weight)

    def lift(self, h: Tensor) -> Tensor:
        """``[h | 0 | ... | 0]``: nothing is remembered yet."""
        return torch.cat([h, h.new_zeros(*h.shape[:-1], (self.memory - 1) * self.dim)], -1)

    def readout(self, state: Tensor) -> Tensor:
        """``H_t``, the first block of the state."""
        return state[..., :self.dim]

    def update(self, history: Sequence[Tensor], shells: Sequence[Tensor]) -> Tensor:
        """``H_{t+1}`` from ``history = (H_t, H_{t-1}, ...)``; what is missing at its end counts as zero."""
        total = torch.zeros_like(history[0])
        for weight, delay, S in zip(self.weight, self.delays, shells, strict=False):
            if delay < len(history):
                total = total + S @ (history[delay] @ weight)
        return self.residual * history[0] + self.activation(total)

    def forward(self, h: Tensor, shells: Sequence[Tensor]) -> Tensor:
        if isinstance(h, Tensor) and h.shape[-1:] != (self.in_dim,):
            raise ValueError(f"h must have {self.in_dim} features, {self.memory} blocks of {self.dim} (see lift); "
                             f"its shape was {tuple(h.shape)}")
        _check_shells(h, shells, self.in_dim, self.weight)
        history = h.split(self.dim, -1)
        return torch.cat([self.update(history, shells), *history[:-1]], -1)

    def extra_repr(self) -> str:
        return f"{self.dim}, hops={self.hops}, nu={self.nu}, memory={self.memory}"


def _check_shells(h: Tensor, shells: Sequence[Tensor], width: int, weight: Tensor) -> None:
    check_input(h, width, weight)
    if isinstance(shells, Tensor) or not isinstance(shells, Sequence):
        raise TypeError(f"shells must be a list of operators, one a distance (shell_operators makes them); "
                        f"it was {type(shells).__name__}")
    n = h.shape[-2]
    for k, S in enumerate(shells, start=1):
        if not isinstance(S, Tensor) or S.dim() < 2 or S.shape[-2:] != (n, n):
            was = tuple(S.shape) if isinstance(S, Tensor) else type(S).__name__
            raise ValueError(f"shells[{k - 1}] must be a tensor of shape (..., {n}, {n}) to fit h; it was {was}")
        if S.dtype != h.dtype and not under_autocast(h):
            raise TypeError(f"shells[{k - 1}] must have the dtype of h ({h.dtype}); it was {S.dtype}")


class DRewGCN(nn.Module):
    r"""Dynamically rewired graph convolutions, with or without delay: layer ``t`` reaches ``t + 1`` hops.

    .. math::
        H_{t+1} = H_t + \sigma\Big(\sum_{k=1}^{t+1} S_k H_{t - \tau_\nu(k)} W_{k,t}\Big), \qquad
        \tau_\nu(k) = \max(0, k - \nu)

    Args:
        dim: feature width.
        num_layers: layers ``t = 0 .. num_layers - 1``.
        nu: ``None`` (infinity) for DRew without delay, 1 for full delay.
        max_hops: the most hops a layer may reach; no cap if ``None``.
        activation: σ.

    Shapes:
        ``h``: ``(..., n, d)``; ``shells``: :func:`shell_operators`; returns ``(..., n, d)``.

    ``layers`` are :class:`DelayGCN` of one common memory, to be stacked one by one for trajectories and Jacobians.

    Raises:
        TypeError, ValueError: as :class:`DelayGCN`; ``num_layers`` or ``max_hops`` no positive integer.

    Left out: see :class:`DelayGCN`; encoder and head.

    Source: Gutteridge et al. (2023).
    """

    operator = "shells"

    def __init__(self, dim: int, num_layers: int, nu: int | None = 1, max_hops: int | None = None,
                 activation: str | Activation | None = "relu") -> None:
        super().__init__()
        num_layers = check_int("num_layers", num_layers, 1)
        reach = num_layers if max_hops is None else min(num_layers, check_int("max_hops", max_hops, 1))
        memory = DelayGCN(1, reach, nu).memory
        self.hops = reach
        self.layers = nn.ModuleList(DelayGCN(dim, min(t + 1, reach), nu, memory, activation=activation)
                                    for t in range(num_layers))

    def states(self, h: Tensor, shells: Sequence[Tensor]) -> Iterator[Tensor]:
        """The features ``H_0, H_1, ...`` one by one; only as many are kept as the delays need."""
        _check_shells(h, shells, self.layers[0].dim, self.layers[0].weight)
        history = [h]
        yield h
        for layer in self.layers:
            history = [layer.update(history, shells), *history[:layer.memory - 1]]
            yield history[0]

    def forward(self, h: Tensor, shells: Sequence[Tensor]) -> Tensor:
        for h in self.states(h, shells):  # noqa: B007, B020 - the last one is the output
            pass
        return h


# ---------------------------------------------------------------- delay as a state-space model

def companion_matrix(blocks: Sequence[Tensor]) -> Tensor:
    r"""Block companion matrix of ``x_{t+1} = C_0 x_t + C_1 x_{t-1} + ... + C_{M-1} x_{t-M+1}``.

    .. math::
        \mathcal C = \begin{pmatrix} C_0 & C_1 & \cdots & C_{M-1} \\ I & & & \\ & \ddots & & \\ & & I & 0 \end{pmatrix}

    Its eigenvalues are the roots of ``det(z^M I - z^{M-1} C_0 - ... - C_{M-1}) = 0``: ``M`` times as many as without
    delay.

    Args:
        blocks: the ``M`` matrices ``C_j``, each ``(N, N)``.

    Shapes:
        returns ``(M N, M N)``.

    Raises:
        ValueError: no blocks, or blocks that are not square and of one size.
    """
    if not blocks or any(block.dim() != 2 or block.shape != (len(blocks[0]),) * 2 for block in blocks):
        raise ValueError("blocks must be at least one square matrix, all of one size; their shapes were "
                         f"{[tuple(block.shape) for block in blocks]}")
    top = torch.cat(list(blocks), 1)
    size = len(blocks[0])
    shift = torch.eye(top.shape[1] - size, top.shape[1], dtype=top.dtype, device=top.device)
    return torch.cat([top, shift], 0)


def delay_state_space(layer: DelayGCN, shells: Sequence[Tensor]) -> Tensor:
    r"""The companion matrix by which a linear :class:`DelayGCN` multiplies ``vec([H_t | H_{t-1} | ...])``.

    .. math:: C_j = [j = 0]\, r I + \sum_{k:\ \tau_\nu(k) = j} W_k^\top \otimes S_k

    It is the layer's Jacobian everywhere; where ``σ(0) = 0`` and ``σ'(0) = 1`` (tanh) it is also that at the origin.

    Args:
        layer: a linear layer (``activation=None``). shells: its operators ``(n, n)``.

    Shapes:
        returns ``(M n d, M n d)``.

    Raises:
        ValueError: a layer with an activation; no operator.
    """
    if not is_linear(layer):
        raise ValueError(f"layer must be linear (activation=None); its activation was {layer.activation!r}")
    if not len(shells):
        raise ValueError("shells must hold at least one operator, which says how many nodes there are; it was empty")
    n, weight = shells[0].shape[-1], layer.weight.detach()
    size = n * layer.dim
    blocks = [weight.new_zeros(size, size) for _ in range(layer.memory)]
    blocks[0] += layer.residual * torch.eye(size, dtype=weight.dtype, device=weight.device)
    for W, delay, S in zip(weight, layer.delays, shells, strict=False):
        blocks[delay] += torch.kron(W.T.contiguous(), to_dense(S))
    return companion_matrix(blocks)
