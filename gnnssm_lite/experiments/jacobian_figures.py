"""The numbers behind the paper's figures 2, 3, 7, 10 and 14: spectra of untrained layers (chapters 3, 4, 7 and 8)."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import datasets, graphs, jacobian, spectra
from ..models import ADGN, GAT, GCN, GNNSSM, PHDGN, SWAN, DelayGCN, shell_operators, state_generator, state_matrix

DTYPE = torch.float64
Row = tuple[str, str, float]  # case, quantity, value


class Cora:
    """Cora's operators in float64, and random features of any width."""

    def __init__(self, device: str) -> None:
        data = datasets.load_cora()
        self.edge_index, self.num_nodes, self.device = data.edge_index.to(device), data.num_nodes, device

    def operator(self, kind: str) -> Tensor:
        """The operator of this kind, sparse."""
        return graphs.operator(kind, self.edge_index, self.num_nodes, "sparse", DTYPE)

    def features(self, width: int, seed: int) -> Tensor:
        """``N(0, 1)`` features."""
        return gaussian(self.num_nodes, width, seed=seed).to(self.device)


def gaussian(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers that depend on the seed only."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


def seeded(make: Callable[[], nn.Module], seed: int, device: str) -> nn.Module:
    """A layer whose initial weights depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(DTYPE).to(device)


def figure_2(cora: Cora, seed: int, width: int = 64) -> Iterator[Row]:
    """Squared singular values as operations are added: mean and share below 0.01."""
    S, h = cora.operator("normalized"), cora.features(width, seed)
    W = (gaussian(width, width, seed=1000 + seed) / math.sqrt(width)).to(cora.device)
    cases = {"W": lambda h: h @ W, "W, tanh": lambda h: torch.tanh(h @ W),
             "W, Â": lambda h: S @ (h @ W), "W, Â, tanh": lambda h: torch.tanh(S @ (h @ W))}
    for case, layer in cases.items():
        # many steps and one probe: the share near zero needs resolution, averages over so many values need no more
        density = jacobian.spectral_density(layer, h, num_probes=1, num_steps=150, seed=seed)
        yield case, "mean", density.moment(1)
        yield case, "share below 0.01", float(density.cdf(0.01))


def figure_3(cora: Cora, seed: int, width: int = 16) -> Iterator[Row]:
    """Eigenvalues of a linear GCN-SSM's Jacobian for several ``Λ`` and ``B``: distance to the edge of chaos."""
    S, h = cora.operator("normalized"), cora.features(width, seed)
    coupling = seeded(lambda: GCN(width, width, None), seed, cora.device)
    for eig in (0.25, 0.5, 0.75, 0.9, 1.0):
        for strength in (0.1, 1.0):
            generator = state_generator(seed)
            Lambda = state_matrix(width, eig, "orthogonal", generator, DTYPE).to(cora.device)
            B = strength * state_matrix(width, 1.0, "uniform", generator, DTYPE).to(cora.device)
            values = jacobian.eigenvalues(GNNSSM(coupling, Lambda, B), h, S)
            case = f"eig(Λ) = {eig:g}, {strength:g} B"
            yield case, "distance to the edge of chaos", spectra.edge_of_chaos_distance(values)
            yield case, "mean modulus", float(values.abs().mean())


def figure_7(cora: Cora, seed: int, width: int = 64) -> Iterator[Row]:
    """A tanh feed-forward layer against a tanh GCN layer with the same weights and input."""
    S, h = cora.operator("normalized"), cora.features(width, seed)
    W = (gaussian(width, width, seed=1000 + seed) / math.sqrt(width)).to(cora.device)
    for case, layer in {"feed-forward": lambda h: torch.tanh(h @ W), "GCN": lambda h: torch.tanh(S @ (h @ W))}.items():
        yield case, "mean", jacobian.spectral_density(layer, h, seed=seed).moment(1)
        yield case, "norm", jacobian.spectral_norm(layer, h)


def figure_10(cora: Cora, seed: int, width: int = 16) -> Iterator[Row]:
    """Jacobians of A-DGN, SWAN and PH-DGN, beside GCN: norm, and mean distance of singular values to one."""
    models = {"A-DGN": lambda: ADGN(width), "SWAN": lambda: SWAN(width), "PH-DGN": lambda: PHDGN(width),
              "GCN": lambda: GCN(width, width, "tanh")}
    for case, make in models.items():
        layer, h = seeded(make, seed, cora.device), cora.features(width, seed)
        h = layer.lift(h) if hasattr(layer, "lift") else h
        S = cora.operator(layer.operator)
        density = jacobian.spectral_density(layer, h, S, seed=seed)
        yield case, "norm", jacobian.spectral_norm(layer, h, S)
        yield case, "mean |σ - 1|", float(density.weights @ abs(density.singular_values - 1))


def figure_14(cora: Cora, seed: int, width: int = 8, hops: int = 3) -> Iterator[Row]:
    """Moduli of Jacobian eigenvalues of a three-hop GCN with and without delay, same weights and state, karate club."""
    karate = datasets.karate_club()
    shells = [S.to(cora.device) for S in shell_operators(karate.edge_index, karate.num_nodes, hops, dtype=DTYPE)]
    weight = gaussian(hops, width, width, seed=seed) / math.sqrt(hops * width)
    state = torch.cat([gaussian(karate.num_nodes, width, seed=100 + seed)] * hops, 1).to(cora.device)
    for case, nu in (("without delay", None), ("with delay", 1)):
        layer = DelayGCN(width, hops, nu=nu, memory=hops, residual=0.0, activation="tanh").to(DTYPE).to(cora.device)
        layer.weight.data = weight.to(cora.device)
        modulus = torch.linalg.eigvals(jacobian.layer_jacobian(layer, state, shells)).abs()
        yield case, "mean modulus", float(modulus.mean())
        yield case, "largest modulus", float(modulus.max())


def attention(cora: Cora, seed: int, width: int = 16) -> Iterator[Row]:
    """Spectral norm of an untrained GAT's attention matrix, which replaces ``Â``; its spectral radius is 1."""
    S, h = cora.operator("adjacency"), cora.features(width, seed)
    layer = seeded(lambda: GAT(width, width), seed, cora.device)
    with torch.no_grad():
        z = (h @ layer.weight).unsqueeze(-2)
        receiver, sender = (z * layer.att_dst).sum(-1), (z * layer.att_src).sum(-1)

    def average(x: Tensor) -> Tensor:
        return layer._sparse(x.unsqueeze(-2), receiver, sender, S).flatten(-2)

    yield "GAT", "norm of the attention matrix", jacobian.spectral_norm(average, cora.features(1, seed))


PARTS = {"figure 2": figure_2, "figure 3": figure_3, "figure 7": figure_7, "figure 10": figure_10, "figure 14": figure_14,
         "attention": attention}

# reduced options of each experiment, for a quick look
QUICK = {"jacobian_figures": {"seeds": (0,), "parts": ("attention",)}}


def jacobian_figures(seeds: Sequence[int] = (0, 1, 2, 3), parts: Sequence[str] = tuple(PARTS), device: str = "cpu",
                     progress: bool = False) -> pd.DataFrame:
    """All of the above, float64.

    Returns:
        a row for each ``part``, ``case``, ``seed`` and ``quantity``, with its ``value``.
    """
    cora, rows = Cora(device), []
    for part in tqdm(parts, desc="Jacobians of untrained layers", disable=not progress):
        for seed in seeds:
            rows += [{"part": part, "case": case, "seed": seed, "quantity": quantity, "value": value}
                     for case, quantity, value in PARTS[part](cora, seed)]
    return pd.DataFrame(rows)
