"""Validations and figures of section 4 and appendix D of the paper that need no training (chapters 5 to 8)."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import datasets, graphs, smoothing
from ..jacobian import spectral_norm
from ..models import (
    ADGN,
    DGC,
    GAT,
    GCN,
    GCNII,
    GIN,
    GNNSSM,
    GRAND,
    PHDGN,
    SWAN,
    DelayGCN,
    GatedGCN,
    GraphCON,
    GraphSAGE,
    Residual,
    shell_operators,
    state_generator,
    state_matrix,
)
from .records import results

DTYPE = torch.float64
ACTIVATIONS = ("relu", "tanh", "elu", None)
# reduced options of each experiment, for a quick look
QUICK = {"contractions": {"seeds": tuple(range(10))}, "decay_rates": {"seeds": (0,)},
         "energy_decay": {"models": ("GCN", "GCN-SSM, eig(Λ) = 1"), "seeds": (0,), "dim": 8, "depth": 8,
                          "only": ("grid 20 x 20",)},
         "assumption": {"seeds": (0, 1), "scales": (0.5, 1.0), "widths": (4,)}}


# ---------------------------------------------------------------- Lemma 4.1, Propositions 4.2 and 4.3

def random_stack(seed: int) -> tuple[list[GCN], Tensor, Tensor, dict]:
    """A random graph, input and stack of GCN layers in float64: ``(layers, x, Â, description)``.

    About half of the stacks contract (``‖J_k‖ < 1`` for every layer).
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    n, depth, width = int(rng.integers(2, 25)), int(rng.integers(1, 11)), int(rng.integers(1, 8))
    S = graphs.normalized_adjacency(graphs.erdos_renyi(n, float(rng.uniform(0.1, 0.7)), seed), n, dtype=DTYPE)
    activation = ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]
    norm = float(rng.uniform(0.3, 0.99) if rng.random() < 0.5 else rng.uniform(0.3, 3.0))
    layers = []
    for _ in range(depth):
        layer = GCN(width, width, activation).to(DTYPE)
        weight = torch.randn(width, width, generator=generator, dtype=DTYPE)
        layer.weight.data = norm * weight / torch.linalg.matrix_norm(weight, 2)
        layers.append(layer)
    x = torch.randn(n, width, generator=generator, dtype=DTYPE)
    return layers, x, S, {"n": n, "depth": depth, "width": width, "activation": activation or "identity"}


def contractions(seeds: Sequence[int] = tuple(range(250)), device: str = "cpu", progress: bool = False) -> pd.DataFrame:
    """Lemma 4.1 and Propositions 4.2 and 4.3 on random draws of graph, depth, width, activation and weights.

    Returns:
        a row a draw: ``norm`` (largest ``‖J_k‖`` over all inputs), ``contracts``, ``at_zero`` (``max ‖f_k(0)‖``),
        ``norm_ratio``, ``energy_ratio`` and ``sharp_ratio`` (largest ratio over depth of the left to the right side of
        Eq. 13, of Eq. 14, and of Eq. 14 with ``λ_max(L)``): at most 1 where the statements hold.
    """
    rows = []
    for seed in tqdm(seeds, desc="contractions", disable=not progress):
        layers, x, S, about = random_stack(seed)
        check = smoothing.check_contraction([layer.to(device) for layer in layers], x.to(device), S.to(device))
        rows.append({"seed": seed, **about, "norm": float(check.norms.max()), "contracts": check.contracts,
                     "at_zero": float(check.at_zero.max()),
                     "norm_ratio": _ratio(check.feature_norms, check.norm_bounds),
                     "energy_ratio": _ratio(check.energies, check.energy_bounds),
                     "sharp_ratio": _ratio(check.energies, check.sharp_bounds)})
    return pd.DataFrame(rows)


def _ratio(values: np.ndarray, bounds: np.ndarray) -> float:
    return float(np.max(np.divide(values, bounds, out=np.zeros_like(values), where=bounds > 0)))


# ---------------------------------------------------------------- energy over depth: figures 8, 9, 11, 12, 13

def energy_graphs(only: Sequence[str] | None = None) -> dict[str, tuple[Tensor, int]]:
    """The three graphs of appendix C: Cora, Texas, a two-dimensional grid; name -> ``(edge_index, num_nodes)``.

    ``only`` names those to load, all if ``None``.
    """
    loaders = {"Cora": datasets.load_cora, "Texas": datasets.load_texas}
    names = [name for name in (*loaders, "grid 20 x 20") if only is None or name in only]
    data = {name: loaders[name]() for name in names if name in loaders}
    return {name: (data[name].edge_index, data[name].num_nodes) if name in data else (graphs.grid(20, 20), 400)
            for name in names}


def _ssm(coupling: type[nn.Module], eig: float, kind: str = "orthogonal") -> Callable[..., Iterator[nn.Module]]:
    def layers(dim: int, depth: int, seed: int) -> Iterator[nn.Module]:
        generator = state_generator(seed)
        Lambda, B = state_matrix(dim, eig, kind, generator), state_matrix(dim, 1.0, "uniform", generator)
        return (GNNSSM(coupling(dim, dim, "tanh"), Lambda, B) for _ in range(depth))
    return layers


def _fresh(make: Callable[[int, int], nn.Module]) -> Callable[..., Iterator[nn.Module]]:
    """``make(dim, k)`` builds layer ``k`` just before it is needed."""
    return lambda dim, depth, seed: (make(dim, k) for k in range(1, depth + 1))


def _shared(make: Callable[[int, int], nn.Module]) -> Callable[..., Iterator[nn.Module]]:
    """One layer, applied at every depth, as models with one set of weights do."""
    return lambda dim, depth, seed: (layer for layer in [make(dim, depth)] for _ in range(depth))


EIGS = (0.5, 0.75, 0.9, 0.99, 1.0)
HOPS = 3  # of the delayed models: on Cora the shells beyond hold a quarter of all pairs

# name -> stack(dim, depth, seed), an iterator of untrained layers. The continuous-time models repeat one layer;
# features evolve otherwise with new weights in each, so both kinds are recorded.
STACKS: dict[str, Callable[..., Iterator[nn.Module]]] = {
    "GCN": _fresh(lambda d, k: GCN(d, d, "tanh")),
    "GCN + residual": _fresh(lambda d, k: Residual(GCN(d, d, "tanh"))),
    "GAT": _fresh(lambda d, k: GAT(d, d, "tanh")),
    "GraphSAGE": _fresh(lambda d, k: GraphSAGE(d, d, "tanh")),
    "GIN": _fresh(lambda d, k: GIN(d, d, "tanh")),
    "GatedGCN": _fresh(lambda d, k: GatedGCN(d, d, "tanh")),
    "GCNII": _fresh(lambda d, k: GCNII(d, layer=k)),
    "DGC": _shared(lambda d, K: DGC(d, terminal_time=5.0, steps=K)),
    "GRAND": _shared(lambda d, K: GRAND(d)),
    "GraphCON": _shared(lambda d, K: GraphCON(d, epsilon=0.1, alpha=0.0)),
    "A-DGN": _shared(lambda d, K: ADGN(d)),
    "SWAN": _shared(lambda d, K: SWAN(d)),
    "PH-DGN": _shared(lambda d, K: PHDGN(d)),
    "GCN, 3 hops": _fresh(lambda d, k: DelayGCN(d, HOPS, nu=None, residual=0.0, activation="tanh")),
    "GCN, 3 hops + delay": _fresh(lambda d, k: DelayGCN(d, HOPS, nu=1, residual=0.0, activation="tanh")),
    "DRew-GCN": _fresh(lambda d, k: DelayGCN(d, HOPS, nu=None, activation="tanh")),
    "DRew-GCN + delay": _fresh(lambda d, k: DelayGCN(d, HOPS, nu=1, activation="tanh")),
    **{f"GCN-SSM, eig(Λ) = {eig:g}": _ssm(GCN, eig) for eig in EIGS},
    **{f"GAT-SSM, eig(Λ) = {eig:g}": _ssm(GAT, eig) for eig in EIGS},
    "GCN-SSM, eig(Λ) = 1, identity": _ssm(GCN, 1.0, "identity"),
    "GCN-SSM, uniform Λ": _ssm(GCN, 1.0, "uniform"),
    # the models above that repeat one set of weights, with new weights in each layer
    "GRAND, fresh weights": _fresh(lambda d, k: GRAND(d)),
    "GraphCON, fresh weights": _fresh(lambda d, k: GraphCON(d, epsilon=0.1, alpha=0.0)),
    "A-DGN, fresh weights": _fresh(lambda d, k: ADGN(d)),
    "SWAN, fresh weights": _fresh(lambda d, k: SWAN(d)),
    "PH-DGN, fresh weights": _fresh(lambda d, k: PHDGN(d)),
}


class Graphs:
    """What the layers of any stack take beside features, each operator made once."""

    def __init__(self, edge_index: Tensor, num_nodes: int, device: str) -> None:
        self.edge_index, self.num_nodes, self.device, self._known = edge_index, num_nodes, device, {}

    def of(self, layer: nn.Module, h0: Tensor) -> tuple:
        """The extra arguments of ``layer(h, *graph)``."""
        kind = layer.operator
        if kind not in self._known:
            arguments = (self.edge_index, self.num_nodes)
            self._known[kind] = ([S.to(self.device) for S in shell_operators(*arguments, HOPS, "sparse")] if kind == "shells"
                                 else graphs.operator(kind, *arguments, "sparse").to(self.device))
        return (self._known[kind], h0) if isinstance(layer, (GRAND, GCNII)) else (self._known[kind],)


def depth_trajectory(name: str, graph: Graphs, dim: int = 64, depth: int = 80, seed: int = 0) -> pd.DataFrame:
    """Energy, norm and quotients of one stack's features from ``N(0, 1)`` input, a row a layer.

    Raises:
        ValueError: a name that is not in ``STACKS``.
    """
    if name not in STACKS:
        raise ValueError(f"name must be one of {', '.join(STACKS)}; it was {name!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        h = torch.randn(graph.num_nodes, dim)
        layers = STACKS[name](dim, depth, seed)
        first = next(layers)
        chain = (layer.to(graph.device) for part in ([first], layers) for layer in part)
        h = h.to(graph.device)
        with torch.no_grad():
            return smoothing.trajectory(chain, h, *graph.of(first, h), edge_index=graph.edge_index.to(graph.device))


def energy_decay(models: Sequence[str] = tuple(STACKS), seeds: Sequence[int] = (0, 1, 2, 3), dim: int = 64, depth: int = 80,
                 every: int = 4, only: Sequence[str] | None = None, device: str = "cpu",
                 progress: bool = False) -> pd.DataFrame:
    """Untrained networks over 80 layers on Cora, Texas and a grid (the paper's figures 8, 9, 11, 12).

    Args:
        models: names in ``STACKS``. every: record each how many-th layer. only: names of the graphs, all if ``None``.

    Returns:
        a row for each graph, model, seed and recorded layer: ``energy``, ``norm``, ``rayleigh``, ``normalized_rayleigh``.
    """
    frames = []
    for graph_name, (edge_index, n) in energy_graphs(only).items():
        graph = Graphs(edge_index, n, device)
        for name in tqdm(models, desc=f"energy on {graph_name}", disable=not progress):
            for seed in seeds:
                run = depth_trajectory(name, graph, dim, depth, seed)
                frames.append(run[run.layer % every == 0].assign(graph=graph_name, model=name, seed=seed))
    return pd.concat(frames, ignore_index=True)


def decay_rates(seeds: Sequence[int] = (0, 1, 2, 3), device: str = "cpu", progress: bool = False) -> pd.DataFrame:
    """Exponential fits to the recorded energies: the factor per layer of the feature norm, and how good the fit is.

    Returns:
        a row for each graph, model and seed of the recorded ``energy_decay``: ``rate``, and ``r_squared`` of the straight
        line through the logarithms. ``device`` plays no part: nothing is computed but fits.
    """
    recorded = results("energy_decay")
    rows = []
    runs = recorded[recorded.seed.isin(seeds)].groupby(["graph", "model", "seed"], sort=False)
    for (graph, model, seed), run in tqdm(runs, desc="decay rates", disable=not progress):
        log_norm = np.log(run.norm.clip(lower=1e-300))
        slope, intercept = np.polyfit(run.layer, log_norm, 1)
        residual = log_norm - slope * run.layer - intercept
        r_squared = 1 - residual.var(ddof=0) / max(log_norm.var(ddof=0), 1e-300)
        rows.append({"graph": graph, "model": model, "seed": seed, "rate": math.exp(slope), "r_squared": r_squared})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- when does the assumption of Proposition 4.2 hold?

def assumption(scales: Sequence[float] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0), widths: Sequence[int] = (4, 16, 64),
               activations: Sequence[str] = ("tanh", "relu"), seeds: Sequence[int] = tuple(range(20)), device: str = "cpu",
               progress: bool = False) -> pd.DataFrame:
    """How often ``‖J‖ < 1`` for a GCN layer with ``W ~ N(0, scale²/d)``, over graphs, widths, activations and inputs.

    Returns:
        a row a draw: ``bound`` (over all inputs, ``‖Â‖ ‖W‖``), ``norm`` (at one ``N(0, 1)`` input, matrix-free), and
        ``gain = ‖f(x)‖ / ‖x‖``.
    """
    karate = datasets.karate_club()
    cases = {"path 20": (graphs.path(20), 20), "grid 8 x 8": (graphs.grid(8, 8), 64),
             "karate club": (karate.edge_index, karate.num_nodes)}
    rows = []
    for graph_name, (edge_index, n) in cases.items():
        S = graphs.normalized_adjacency(edge_index, n, dtype=DTYPE).to(device)
        for width in tqdm(widths, desc=f"assumption, {graph_name}", disable=not progress):
            for activation in activations:
                for scale in scales:
                    for seed in seeds:
                        rows.append({"graph": graph_name, "width": width, "activation": activation, "scale": scale,
                                     "seed": seed} | _one_layer(S, n, width, activation, scale, seed, device))
    return pd.DataFrame(rows)


def _one_layer(S: Tensor, n: int, width: int, activation: str, scale: float, seed: int, device: str) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    layer = GCN(width, width, activation).to(DTYPE)
    layer.weight.data = scale * torch.randn(width, width, generator=generator, dtype=DTYPE) / math.sqrt(width)
    x, layer = torch.randn(n, width, generator=generator, dtype=DTYPE).to(device), layer.to(device)
    with torch.no_grad():
        gain = float(layer(x, S).norm() / x.norm())
    return {"bound": smoothing.layer_norm_bound(layer, S), "norm": spectral_norm(layer, x, S), "gain": gain}
