"""Networks of layers: encoder, message-passing layers, readout; and one registry of layer names and options."""
from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_int
from ..graphs import operator, sparse_matrix
from .convolutions import GAT, GCN, GIN, GatedGCN, GraphLayer, GraphSAGE
from .dynamical import ADGN, DGC, GCNII, GRAND, PHDGN, SWAN, GraphCON
from .multihop import DRewGCN, kGCN, shell_operators
from .recurrence import GNNSSM, operator_of, state_generator, state_matrix
from .transformer import GPS

LEVELS = ("node", "graph")
READOUTS = ("linear", "mlp", "mlp_leaky")


class Network(nn.Module):
    r"""Encoder, then layers on one graph, then readout: ``readout(f_K ∘ ... ∘ f_1(encoder(x)))``.

    Layers of this package that carry more than features (a second-order system, say) get their state from the first
    layer's ``lift``, and the last layer's ``readout`` gives the features back; layers with ``needs_initial`` get the
    encoded features ``H^{(0)}`` as a last argument.

    Args:
        encoder: ``(..., n, p) -> (..., n, d)``.
        layers: message-passing layers of width ``d``.
        readout: ``(..., n, d) -> (..., n, c)``; at level ``"graph"`` ``(..., 3 d) -> (..., c)``.
        dropout: probability, applied to the input and before the readout.
        level: ``"node"``, or ``"graph"`` for one output a graph: sum, maximum and mean over its nodes are read out.

    Shapes:
        ``x``: ``(..., n, p)``, or sparse CSR ``(n, p)``; ``graph``: what the layers take beside features
        (:meth:`graph_arguments`); returns ``(..., n, c)``, or ``(..., c)`` at level ``"graph"``. Several graphs of one
        size go in as ``(b, n, p)``; a disjoint union of graphs, such as torch-geometric's ``Batch``, counts as one graph.

    Raises:
        ValueError: an unknown level; layers that ask for different operators (:meth:`graph_arguments`).
        TypeError: sparse ``x`` where the encoder is not linear (:meth:`encode`).
    """

    def __init__(self, encoder: nn.Module, layers: list[nn.Module], readout: nn.Module, dropout: float = 0.0,
                 level: str = "node") -> None:
        super().__init__()
        self.encoder, self.layers, self.readout = encoder, nn.ModuleList(layers), readout
        self.dropout, self.level = nn.Dropout(dropout), check_choice("level", level, LEVELS)

    @property
    def operator(self) -> str:
        """What the layers ask for, a kind of :func:`gnnssm_lite.graphs.operator`, ``"shells"``, or ``"edge_index"`` if one
        of them is or contains a torch-geometric layer."""
        asked = [operator_of(layer) for layer in self.layers]
        return "edge_index" if "edge_index" in asked else asked[0] if asked else "normalized"

    @property
    def hops(self) -> int:
        """The farthest shell that a layer reads; 1 where layers take a single operator."""
        return max((getattr(layer, "hops", 1) for layer in self.layers), default=1)

    @property
    def shell(self) -> str:
        """The kind of the shells that the layers ask for (:func:`~gnnssm_lite.models.multihop.shell_operators`)."""
        return getattr(self.layers[0], "shell", "normalized") if len(self.layers) else "normalized"

    def graph_arguments(self, edge_index: Tensor, num_nodes: int, layout: str = "dense",
                        dtype: torch.dtype = torch.float32) -> tuple:
        """What to call the network with after ``x``: ``(S,)``, ``(shells,)`` for layers that read shells, or
        ``(edge_index,)`` for torch-geometric's.

        Raises:
            ValueError: layers that ask for different operators or shells, or some for ``edge_index`` and others for an
                operator: all are given the same; arguments that describe no graph.
        """
        kind = self.operator
        if kind == "edge_index":
            self._refuse_operators()
            return (edge_index,)
        self._refuse_another(kind)
        if kind == "shells":
            return (shell_operators(edge_index, num_nodes, self.hops, layout, dtype, complete=True, kind=self.shell),)
        return (operator(kind, edge_index, num_nodes, layout, dtype),)

    def _refuse_operators(self) -> None:
        """Layers that need an operator cannot stand beside layers that take ``edge_index``: all are given the same."""
        for k, layer in enumerate(self.layers):
            if operator_of(layer) != "edge_index" and any(isinstance(part, GraphLayer) for part in layer.modules()):
                raise ValueError(f"layers must all take edge_index beside a torch-geometric layer; layers[{k}] was "
                                 f"{type(layer).__name__}, which takes the operator {operator_of(layer)!r}")

    def _refuse_another(self, kind: str) -> None:
        for k, layer in enumerate(self.layers):
            asks, first = operator_of(layer), kind
            if asks == first == "shells":
                asks, first = f"{getattr(layer, 'shell', 'normalized')} shells", f"{self.shell} shells"
            if asks != first:
                raise ValueError(f"layers must all ask for the same operator; layers[{k}], a {type(layer).__name__}, asks "
                                 f"for {asks!r}, layers[0] for {first!r}")

    def encode(self, x: Tensor) -> Tensor:
        """``H^{(0)}``, the features that the first layer sees. A sparse ``x`` needs a linear encoder."""
        if x.layout == torch.strided:
            return self.encoder(self.dropout(x))
        # A bag of words is nearly all zeros: dropping and multiplying only its ones is ten times faster on Cora.
        if type(self.encoder) is not nn.Linear or self.encoder.bias is None:
            raise TypeError("x must be dense unless the encoder is an nn.Linear with a bias; "
                            f"x was sparse, the encoder {self.encoder!r}")
        dropped = sparse_matrix(x.crow_indices(), x.col_indices(), self.dropout(x.values()), x.shape)
        return dropped @ self.encoder.weight.T + self.encoder.bias

    def states(self, h: Tensor, *graph: Tensor) -> Iterator[Tensor]:
        """The states before the first and after every layer, from encoded features ``h``."""
        extras, state = {}, lift(self.layers[0], h) if len(self.layers) else h
        yield state
        for layer in self.layers:
            if layer not in extras:  # a layer that is there ten times prepares itself once
                extras[layer] = _from_initial(layer, h, graph)
            state = layer(state, *graph, *extras[layer])
            yield state

    def forward(self, x: Tensor, *graph: Tensor) -> Tensor:
        for state in self.states(self.encode(x), *graph):  # noqa: B007 - the last one is the output
            pass
        h = readout(self.layers[-1], state) if len(self.layers) else state
        return self.readout(self.dropout(pool(h) if self.level == "graph" else h))


def _from_initial(layer: nn.Module, h: Tensor, graph: tuple) -> tuple:
    """What the layer takes after the graph: the initial features, or what it prepares from them, or nothing."""
    if not getattr(layer, "needs_initial", False):
        return ()
    prepare = getattr(layer, "prepare", None)
    return (h if prepare is None else prepare(h, *graph),)


def lift(layer: Callable, h: Tensor) -> Tensor:
    """Features as the layer's state. Only a :class:`~gnnssm_lite.models.convolutions.GraphLayer` has a say in it: what a
    reader's own layer calls ``lift`` or ``readout`` is a part of its forward pass."""
    return layer.lift(h) if isinstance(layer, GraphLayer) else h


def readout(layer: Callable, state: Tensor) -> Tensor:
    """The features within the layer's state; undoes :func:`lift`."""
    return layer.readout(state) if isinstance(layer, GraphLayer) else state


def pool(h: Tensor) -> Tensor:
    """Sum, maximum and mean over the nodes, side by side: ``(..., n, d) -> (..., 3 d)``."""
    return torch.cat([h.sum(-2), h.amax(-2), h.mean(-2)], -1)


class Residual(nn.Module):
    r"""A layer with a plain residual connection, ``H' = H + F(H, A)``: GNN-SSM at ``Λ = B = I``.

    Raises:
        ValueError: when called, a layer that does not keep the shape of ``h``.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.operator = layer, operator_of(layer)
        self.hops, self.needs_initial = getattr(layer, "hops", 1), getattr(layer, "needs_initial", False)
        self.shell = getattr(layer, "shell", "normalized")

    def forward(self, h: Tensor, *graph: Tensor) -> Tensor:
        out = self.layer(h, *graph)
        if out.shape != h.shape:
            raise ValueError(f"layer of a residual connection must keep the shape {tuple(h.shape)} of h; "
                             f"it returned {tuple(out.shape)}")
        return h + out


# ---------------------------------------------------------------- the registry
# A factory makes the layers of a network: factory(dim, depth, generator, **options) -> list of layers. Its attribute
# ``layer`` names the class that takes those options it does not use itself.

Factory = Callable[..., list[nn.Module]]
SET_BY_DEPTH = {"hop", "layer", "steps"}  # parameters of layers that a factory sets, no options


def _of(layer: type[nn.Module]) -> Callable[[Factory], Factory]:
    def mark(factory: Factory) -> Factory:
        factory.layer = layer
        return factory
    return mark


def _each(layer: type[nn.Module]) -> Factory:
    """``depth`` layers ``layer(d, d)``."""
    @_of(layer)
    def layers(dim: int, depth: int, generator: torch.Generator, **options: object) -> list[nn.Module]:
        return [layer(dim, dim, **options) for _ in range(depth)]
    return layers


def _residual(layer: type[nn.Module]) -> Factory:
    @_of(layer)
    def layers(dim: int, depth: int, generator: torch.Generator, **options: object) -> list[nn.Module]:
        return [Residual(layer(dim, dim, **options)) for _ in range(depth)]
    return layers


@_of(kGCN)
def _khop(dim: int, depth: int, generator: torch.Generator, **options: object) -> list[nn.Module]:
    return [kGCN(dim, dim, hop=k, **options) for k in range(1, depth + 1)]


def _ssm(couplings: Factory) -> Factory:
    @_of(couplings.layer)
    def layers(dim: int, depth: int, generator: torch.Generator, eig: float = 1.0, kind: str = "orthogonal",
               input_kind: str = "uniform", **options: object) -> list[nn.Module]:
        # Λ and B are drawn once and shared by all layers (section 3.3 of the paper).
        Lambda = state_matrix(dim, eig, kind, generator)
        B = state_matrix(dim, 1.0, input_kind, generator)
        return [GNNSSM(coupling, Lambda, B) for coupling in couplings(dim, depth, generator, **options)]
    return layers


def _steps(layer: type[nn.Module]) -> Factory:
    """Time steps of one system: the same layer ``depth`` times (``shared``, as the models' papers do), or one each."""
    @_of(layer)
    def layers(dim: int, depth: int, generator: torch.Generator, shared: bool = True,
               **options: object) -> list[nn.Module]:
        return [layer(dim, **options)] * depth if shared else [layer(dim, **options) for _ in range(depth)]
    return layers


def _deep(layer: type[nn.Module]) -> Factory:
    """``depth`` layers ``layer(d)`` with weights of their own."""
    @_of(layer)
    def layers(dim: int, depth: int, generator: torch.Generator, **options: object) -> list[nn.Module]:
        return [layer(dim, **options) for _ in range(depth)]
    return layers


@_of(GCNII)
def _gcnii(dim: int, depth: int, generator: torch.Generator, **options: object) -> list[nn.Module]:
    return [GCNII(dim, layer=k, **options) for k in range(1, depth + 1)]


@_of(DGC)
def _dgc(dim: int, depth: int, generator: torch.Generator, **options: object) -> list[nn.Module]:
    return [DGC(dim, steps=max(depth, 1), **options)] * depth


def _drew(nu: int | None) -> Factory:
    @_of(DRewGCN)
    def layers(dim: int, depth: int, generator: torch.Generator, nu: int | None = nu, **options: object) -> list[nn.Module]:
        return [DRewGCN(dim, depth, nu=nu, **options)] if depth else []  # one module, so that delays share one history
    return layers


REGISTRY: dict[str, Factory] = {
    "GCN": _each(GCN), "GAT": _each(GAT), "GraphSAGE": _each(GraphSAGE), "GIN": _each(GIN), "GatedGCN": _each(GatedGCN),
    "GCN-residual": _residual(GCN), "GAT-residual": _residual(GAT), "GCNII": _gcnii,
    "DGC": _dgc, "GRAND": _steps(GRAND), "GraphCON": _steps(GraphCON), "ADGN": _steps(ADGN), "SWAN": _steps(SWAN),
    "PHDGN": _steps(PHDGN), "DRewGCN": _drew(None), "DRewGCN-delay": _drew(1), "kGCN": _khop, "GPS": _deep(GPS),
    "GCN-SSM": _ssm(_each(GCN)), "GAT-SSM": _ssm(_each(GAT)), "kGCN-SSM": _ssm(_khop),
}


def names() -> list[str]:
    """The names that :func:`build` knows."""
    return sorted(REGISTRY)


def options_of(name: str) -> dict[str, object]:
    """The options that :func:`build` takes for a name, with their defaults.

    Raises:
        ValueError: an unknown name, with the nearest known one.

    Example:
        >>> options_of("GCN-SSM")
        {'activation': 'relu', 'bias': False, 'operator': 'normalized', 'eig': 1.0, 'kind': 'orthogonal', ...}
    """
    factory = REGISTRY[_known("name", name, REGISTRY, ValueError)]
    takers = (inspect.signature(factory), inspect.signature(factory.layer))
    return {key: parameter.default for taker in reversed(takers) for key, parameter in taker.parameters.items()
            if parameter.default is not parameter.empty and key not in SET_BY_DEPTH}


def _known(argument: str, name: str, known: Iterable[str], error: type[Exception]) -> str:
    """``name`` if it is known; else an error with the nearest known one."""
    if name in known:
        return name
    near = [k for k in known if k.lower() == str(name).lower()]
    near = near or difflib.get_close_matches(str(name), known, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise error(f"{argument} must be one of {sorted(known)}; it was {name!r}{hint}")


def build(name: str, in_dim: int, out_dim: int, hidden_dim: int, num_layers: int, level: str = "node",
          dropout: float = 0.0, seed: int = 0, readout: str = "linear", state_seed: int | None = None,
          **options: object) -> Network:
    """A network by the name of its layer: linear encoder, ``num_layers`` layers of width ``hidden_dim``, readout.

    Args:
        name: one of :func:`names`.
        in_dim, out_dim, hidden_dim, num_layers: sizes.
        level: ``"node"``: one output a node; ``"graph"``: one a graph, from sum, maximum and mean over its nodes.
        dropout: see :class:`Network`.
        seed: of weights, ``Λ`` and ``B``; torch's global generator is left as it was.
        state_seed: of ``Λ`` and ``B`` alone; ``None``: one that follows from ``seed`` and whose stream is not that of the
            weights. With ``state_seed=seed`` it is: ``Λ`` and ``B`` then repeat the weights' numbers, up to their scale.
        readout: ``"linear"``; ``"mlp"``: Linear, LeakyReLU, Linear, of width ``hidden_dim``; ``"mlp_leaky"``: of half the
            width of its input, and with another LeakyReLU on the output, as in the public code of the graph-property
            benchmark.
        options: passed to the layer (``activation``, ``heads``, ...); for the ``-SSM`` names also ``eig`` and ``kind``
            of ``Λ`` (:func:`~gnnssm_lite.models.recurrence.state_matrix`) and ``input_kind`` of ``B``; for the dynamical
            systems ``shared``: the same weights in every step (default), or new ones.

    Raises:
        ValueError: an unknown name, with the nearest known one; an unknown level or readout; sizes out of range.
        TypeError: an option that the layer does not take, with the nearest that it does (:func:`options_of`); a module as
            an option of more than one layer.
    """
    known = options_of(name)
    for option in options:
        _known(f"the options of {name!r}", option, known, TypeError)
    check_choice("level", level, LEVELS)
    check_choice("readout", readout, READOUTS)
    in_dim, out_dim = check_int("in_dim", in_dim, 1), check_int("out_dim", out_dim, 1)
    depth = check_int("num_layers", num_layers, 0)
    width = check_int("hidden_dim", hidden_dim, 1) * (3 if level == "graph" else 1)
    seed = check_int("seed", seed, 0)
    generator = state_generator(seed) if state_seed is None else (
        torch.Generator().manual_seed(check_int("state_seed", state_seed, 0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, last = nn.Linear(in_dim, hidden_dim), _readout(readout, width, hidden_dim, out_dim)
        layers = REGISTRY[name](hidden_dim, depth, generator, **options)
    given = [option for option, value in options.items() if isinstance(value, nn.Module)]
    if given and len(set(layers)) > 1:
        raise TypeError(f"{given[0]} must be no module in a network of several layers, which would all hold the same one; "
                        "make the layers and pass them to Network")
    return Network(encoder, layers, last, dropout, level)


def _readout(kind: str, width: int, hidden_dim: int, out_dim: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(width, out_dim)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width, hidden_dim), nn.LeakyReLU(), nn.Linear(hidden_dim, out_dim))
    half = max(width // 2, 1)
    return nn.Sequential(nn.Linear(width, half), nn.LeakyReLU(), nn.Linear(half, out_dim), nn.LeakyReLU())
