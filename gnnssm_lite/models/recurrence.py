r"""GNN-SSM: a message-passing layer read as the input of a linear state-space model. Introduced in chapter 4."""
from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from ..checks import check_choice, check_features, check_finite, check_floating, check_int, check_square, under_autocast

STATE_MATRICES = ("orthogonal", "identity", "gaussian", "uniform", "spread")


class GNNSSM(nn.Module):
    r"""State-space model on a graph (Eq. 9, chapter 4).

    .. math:: H^{(k+1)} = H^{(k)} \Lambda + F_k(H^{(k)}, A) B

    ``Λ`` carries the memory, the coupling ``F_k`` the neighbourhood. ``Λ`` and ``B`` are buffers: they move with the
    module and are saved with it, but are not trained. The paper has one ``Λ`` and one ``B`` for all layers: give every
    layer the same two. Each keeps copies of its own, so no layer changes when a given matrix or another layer's does.

    Args:
        coupling: ``F_k``, any callable ``coupling(h, *graph, **options)`` of width ``d``: a layer of this package, a
            torch-geometric convolution, or a reader's own. ``None`` for no coupling (``H Λ`` alone).
        state_matrix: ``Λ``, ``(d, d)``; see :func:`state_matrix`.
        input_matrix: ``B``, ``(d_F, d)``; the identity if ``None``.

    Shapes:
        ``h``: ``(..., n, d)``; ``graph``: ``(S,)`` for our layers, ``(edge_index,)`` for torch-geometric's;
        returns ``(..., n, d)``. Arguments given by name (``edge_weight=...``) go to the coupling as they are.

    Raises:
        TypeError: ``coupling`` is not callable or a class; a matrix is no floating-point tensor; ``h``, ``B`` or what the
            coupling returns has another dtype, or is no tensor.
        ValueError: ``Λ`` is not square, ``Λ`` or ``B`` not finite, ``B`` does not map into the width of ``Λ``, or ``h`` or
            what the coupling returns has another width.
    """

    def __init__(self, coupling: Callable[..., Tensor] | None, state_matrix: Tensor,
                 input_matrix: Tensor | None = None) -> None:
        super().__init__()
        _check_coupling(coupling)
        check_square("state_matrix", state_matrix)
        if input_matrix is not None:
            _check_input_matrix(input_matrix, state_matrix)
        self.coupling = coupling
        self.register_buffer("Lambda", state_matrix.detach().clone())
        self.register_buffer("B", None if input_matrix is None else input_matrix.detach().clone())

    @property
    def operator(self) -> str:
        """The operator that the coupling asks for (:func:`operator_of`)."""
        return operator_of(self.coupling)

    @property
    def hops(self) -> int:
        """The farthest shell that the coupling reads."""
        return getattr(self.coupling, "hops", 1)

    @property
    def shell(self) -> str:
        """The kind of shells that the coupling asks for."""
        return getattr(self.coupling, "shell", "normalized")

    @property
    def needs_initial(self) -> bool:
        """Whether the coupling takes the initial features as a last argument."""
        return getattr(self.coupling, "needs_initial", False)

    def forward(self, h: Tensor, *graph: Tensor, **options: object) -> Tensor:
        check_features(h)
        if h.shape[-1] != self.Lambda.shape[0]:
            raise ValueError(f"h must have {self.Lambda.shape[0]} features, the size of state_matrix; "
                             f"its shape was {tuple(h.shape)}")
        if h.dtype != self.Lambda.dtype and not under_autocast(h):
            raise TypeError(f"h must have the dtype of state_matrix ({self.Lambda.dtype}); it was {h.dtype}")
        memory = h @ self.Lambda
        if self.coupling is None:
            return memory
        update = self._checked(self.coupling(h, *graph, **options), h)
        return memory + (update if self.B is None else update @ self.B)

    def _checked(self, update: object, h: Tensor) -> Tensor:
        """What the coupling returned, if it can be added to ``h Λ``."""
        if not isinstance(update, Tensor):
            raise TypeError(f"coupling must return a tensor of features; it returned {type(update).__name__}")
        width = (self.Lambda if self.B is None else self.B).shape[0]
        if update.shape != (*h.shape[:-1], width):  # before + could broadcast it
            raise ValueError(f"coupling must return shape {(*h.shape[:-1], width)}; it returned {tuple(update.shape)}")
        if update.dtype != h.dtype and not under_autocast(h):
            raise TypeError(f"coupling must return the dtype of state_matrix ({h.dtype}); it returned {update.dtype}")
        return update

    def kronecker_terms(self) -> dict[int, Tensor] | None:
        """``{0: Λ, 1: W B}`` for a linear GCN coupling: the Jacobian is ``Λᵀ ⊗ I + (W B)ᵀ ⊗ S``."""
        from ..jacobian import kronecker_terms  # jacobian stands above models; asked only when it calls

        terms = {} if self.coupling is None else kronecker_terms(self.coupling)
        if terms is None:
            return None
        B = torch.eye(len(self.Lambda), dtype=self.Lambda.dtype, device=self.Lambda.device) if self.B is None else self.B
        terms = {power: weight @ B for power, weight in terms.items()}
        terms[0] = terms[0] + self.Lambda if 0 in terms else self.Lambda
        return terms


def _check_coupling(coupling: object) -> None:
    if isinstance(coupling, type):
        raise TypeError("coupling must be a layer or another function, callable as coupling(h, *graph); "
                        f"it was the class {coupling.__name__}")
    if coupling is not None and not callable(coupling):
        raise TypeError(f"coupling must be callable as coupling(h, *graph); it was {type(coupling).__name__}")


def operator_of(layer: object) -> str:
    """The operator that a layer, a coupling or a model asks for.

    Returns:
        its ``operator`` attribute, a kind of :func:`gnnssm_lite.graphs.operator` or ``"shells"``; where it names none,
        ``"edge_index"`` for a module that is or contains a torch-geometric ``MessagePassing`` layer, which normalises for
        itself, and ``"normalized"`` for all others.
    """
    named = getattr(layer, "operator", None)
    if isinstance(named, str):
        return named
    parts = layer.modules() if isinstance(layer, nn.Module) else ()
    return "edge_index" if any(isinstance(part, MessagePassing) for part in parts) else "normalized"


def _check_operator_coupling(coupling: nn.Module) -> nn.Module:
    """``coupling`` itself, unless it takes ``edge_index`` where a layer has an operator ``S`` to give."""
    if operator_of(coupling) == "edge_index":
        raise TypeError("coupling must be called as coupling(h, S) with an operator S; it was "
                        f"{type(coupling).__name__}, which takes edge_index (GNNSSM can wrap it)")
    return coupling


def _check_input_matrix(input_matrix: Tensor, state_matrix: Tensor) -> None:
    check_finite("input_matrix", check_floating("input_matrix", input_matrix))
    if input_matrix.dim() != 2 or input_matrix.shape[1] != state_matrix.shape[1]:
        raise ValueError(f"input_matrix must have shape (coupling width, {state_matrix.shape[1]}); "
                         f"its shape was {tuple(input_matrix.shape)}")
    if input_matrix.dtype != state_matrix.dtype:
        raise TypeError(f"input_matrix must have the dtype of state_matrix ({state_matrix.dtype}); "
                        f"it was {input_matrix.dtype}")


def state_generator(seed: int) -> torch.Generator:
    """A generator for ``Λ`` and ``B`` of a network whose weights ``torch.manual_seed(seed)`` decides.

    ``torch.Generator().manual_seed(seed)`` would give the numbers of those weights once more, up to their scale.

    Raises:
        TypeError, ValueError: ``seed`` is no integer of at least 0.
    """
    sequence = np.random.SeedSequence(check_int("seed", seed, 0), spawn_key=(1,))
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


def state_matrix(dim: int, eig: float = 1.0, kind: str = "orthogonal", generator: torch.Generator | None = None,
                 dtype: torch.dtype | None = None) -> Tensor:
    r"""State-transition matrix ``Λ`` with a chosen spectrum.

    =============  =====================================================================================
    kind           matrix
    =============  =====================================================================================
    orthogonal     ``eig · Q`` with ``Q`` Haar-random orthogonal: all eigenvalues of modulus ``eig``, and ``‖Λ‖₂ = eig``
    identity       ``eig · I``: all eigenvalues equal to ``eig``, a scaled residual connection
    gaussian       i.i.d. ``N(0, eig²/d)``: spectral radius near ``eig``, spectral norm near ``2 eig``
    uniform        ``eig`` times i.i.d. ``U(-1/√d, 1/√d)``, an untrained linear layer: no control of the spectrum,
                   spectral radius near ``eig/√3``
    spread         normal, conjugate pairs with moduli evenly spaced in ``(0, eig]`` and random angles
    =============  =====================================================================================

    Args:
        dim: state width ``d``.
        eig: the scale of the eigenvalues, non-negative.
        kind: one of the above.
        generator: source of randomness; the identity needs none. ``None`` uses torch's global one.
        dtype: floating-point dtype; torch's default if ``None``.

    Shapes:
        returns ``(d, d)``.

    Raises:
        TypeError, ValueError: ``dim`` is no positive integer, ``eig`` negative or not finite, ``kind`` unknown.

    Source: Eq. (9) and appendix B of the paper; Haar sampling after Mezzadri (2007).
    """
    dim, kind = check_int("dim", dim, 1), check_choice("kind", kind, STATE_MATRICES)
    if isinstance(eig, bool) or not isinstance(eig, numbers.Real):
        raise TypeError(f"eig must be a real number; it was {eig!r} of type {type(eig).__name__}")
    if not math.isfinite(eig) or eig < 0:
        raise ValueError(f"eig must be finite and at least 0; it was {eig}")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point torch.dtype; it was {dtype!r}")
    if kind == "identity":
        return eig * torch.eye(dim, dtype=dtype)
    if kind == "uniform":
        return eig * (2 * torch.rand(dim, dim, generator=generator, dtype=dtype) - 1) / math.sqrt(dim)
    if kind == "gaussian":
        return eig * torch.randn(dim, dim, generator=generator, dtype=dtype) / math.sqrt(dim)
    Q = haar_orthogonal(dim, generator)
    return (eig * (Q if kind == "orthogonal" else Q @ _rotations(dim, generator) @ Q.T)).to(dtype)


def haar_orthogonal(dim: int, generator: torch.Generator | None = None) -> Tensor:
    """A ``(dim, dim)`` orthogonal matrix drawn from the Haar measure, float64.

    The signs of ``R``'s diagonal are moved into ``Q``; without that step QR does not give the Haar measure.

    Raises:
        TypeError, ValueError: ``dim`` is no positive integer.
    """
    dim = check_int("dim", dim, 1)
    Q, R = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    return Q * torch.where(R.diagonal() < 0, -1.0, 1.0)


def _rotations(dim: int, generator: torch.Generator | None) -> Tensor:
    """Block-diagonal scaled rotations with moduli evenly spaced in (0, 1]; a single real entry when ``dim`` is odd."""
    pairs = (dim + 1) // 2
    modulus = torch.arange(1, pairs + 1, dtype=torch.float64) / pairs
    angle = math.pi * torch.rand(pairs, generator=generator, dtype=torch.float64)
    c, s = modulus * torch.cos(angle), modulus * torch.sin(angle)
    blocks = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
    if dim % 2 == 0:
        return torch.block_diag(*blocks)
    return torch.block_diag(*blocks[:-1], modulus[-1:].reshape(1, 1))


def recurrent_step(h: Tensor, x: Tensor, W: Tensor, U: Tensor,
                   activation: Callable[[Tensor], Tensor] = torch.tanh) -> Tensor:
    r"""One step of a recurrent network (Eq. 4, chapter 2), for column vectors stored as rows.

    .. math:: h^{(k)} = \sigma(W h^{(k-1)} + U x^{(k)})

    Shapes:
        ``h``: ``(..., d)``; ``x``: ``(..., p)``; ``W``: ``(d, d)``; ``U``: ``(d, p)``; returns ``(..., d)``.
    """
    return activation(h @ W.T + x @ U.T)
