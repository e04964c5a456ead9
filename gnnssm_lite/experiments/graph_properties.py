"""Section 5 of the paper: graph properties, the main experiment (the paper's tables 2 and 4, chapter 10)."""
from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import pandas as pd
import torch

from .. import datasets
from ..checks import check_choice
from ..datasets.properties import LABELS, PropertyBatch
from ..device import flush_denormals
from ..graphs import batch_operator
from ..jacobian import eigenvalues
from ..models import DelayGCN, DRewGCN, Network, batch_shell_operators, build
from ..spectra import edge_of_chaos_distance
from ..training import Batch, TrainingConfig, mean_squared_error, train_regression
from .records import results
from .runner import chosen, grid, histories, sweep

TARGETS = LABELS
# of the paper's appendix C; batches and labels are those of chapter 10
SETTING = {"width": 20, "layers": 10, "lr": 0.003, "epochs": 1500, "patience": 100, "normalised": True, "data_seed": 1234,
           "device": "cpu"}
# reduced options of each experiment, for a quick look
QUICK = {"graph_properties": {"models": ("GCN",), "targets": ("sssp",), "seeds": (0,), "width": 4, "layers": 2, "epochs": 2},
         "table_4": {"models": ("DGC, T = 1",), "targets": ("sssp",), "epochs": 2},
         "second_seeds": {"rows": ("DGC",), "targets": ("sssp",), "epochs": 2},
         "raw_labels": {"models": ("DGC, T = 1",), "targets": ("sssp",), "epochs": 2},
         "public_code": {"models": ("GCN, public code",), "targets": ("sssp",), "epochs": 2},
         "independent_draws": {"models": ("GCN-SSM",), "targets": ("sssp",), "seeds": (0,), "epochs": 2},
         "initial_edge_distance": {"models": ("DGC, T = 1",), "levels": ("node",), "width": 4, "layers": 2},
         "adgn_gamma": {"gammas": (0.0,), "targets": ("sssp",), "every": 1, "width": 4, "layers": 2, "epochs": 2}}
# label -> (registry name, options of the layers); the first six are the rows of the paper's table 2
PROPERTY_MODELS: dict[str, tuple[str, dict]] = {
    "GCN": ("GCN", {}),
    "GCN-SSM": ("GCN-SSM", {"kind": "uniform"}),
    "GCN-SSM, eig(Λ) = 1, identity": ("GCN-SSM", {"kind": "identity"}),
    "kGCN-SSM, eig(Λ) = 1, identity": ("kGCN-SSM", {"kind": "identity"}),
    "DRew-GCN": ("DRewGCN", {}),
    "DRew-GCN + delay": ("DRewGCN-delay", {}),
    "GCN + residual": ("GCN-residual", {}),
    "GCN-SSM, eig(Λ) = 1, orthogonal": ("GCN-SSM", {"kind": "orthogonal"}),
    "kGCN-SSM, eig(Λ) = 1, orthogonal": ("kGCN-SSM", {"kind": "orthogonal"}),
    "k-hop GCN": ("kGCN", {}),
    # Eq. (21) sums over the nodes at distance k; the public code of DRew normalises. Both are tried, validation chooses.
    "kGCN-SSM, eig(Λ) = 1, identity, sum": ("kGCN-SSM", {"kind": "identity", "shell": "adjacency"}),
    "kGCN-SSM, eig(Λ) = 1, orthogonal, sum": ("kGCN-SSM", {"kind": "orthogonal", "shell": "adjacency"}),
    "k-hop GCN, sum": ("kGCN", {"shell": "adjacency"}),
    "sum-SSM, eig(Λ) = 1, identity": ("GCN-SSM", {"kind": "identity", "operator": "adjacency"}),  # sums, one hop
    # the other rows of table 4
    "GAT": ("GAT", {}),
    "GraphSAGE": ("GraphSAGE", {}),
    "GIN": ("GIN", {}),
    "GIN, linear": ("GIN", {"mlp": "linear", "train_epsilon": True}),
    "GCNII": ("GCNII", {}),
    "GCNII, α = 0.5": ("GCNII", {"alpha": 0.5}),
    "GCNII, β = 1": ("GCNII", {"theta": None}),
    "DGC, T = 1": ("DGC", {"terminal_time": 1.0}),
    "DGC, T = 5": ("DGC", {"terminal_time": 5.0}),
    "GRAND, ε = 0.1": ("GRAND", {"epsilon": 0.1}),
    "GRAND, ε = 0.1, nonlinear": ("GRAND", {"epsilon": 0.1, "nonlinear": True}),
    "GraphCON, ε = 1": ("GraphCON", {"epsilon": 1.0}),
    "GraphCON, ε = 0.1, α = 0": ("GraphCON", {"epsilon": 0.1, "alpha": 0.0}),
    "A-DGN, ε = 0.1": ("ADGN", {"epsilon": 0.1}),
    "A-DGN, ε = 1": ("ADGN", {"epsilon": 1.0}),
    "A-DGN, ε = 0.1, sum": ("ADGN", {"epsilon": 0.1, "operator": "adjacency"}),
    "SWAN, ε = 0.1": ("SWAN", {"epsilon": 0.1}),
    "SWAN, ε = 1, β = 1": ("SWAN", {"epsilon": 1.0, "beta": 1.0}),
    "PH-DGN, ε = 0.1": ("PHDGN", {"epsilon": 0.1}),
    "PH-DGN, ε = 0.1, sum": ("PHDGN", {"epsilon": 0.1, "operator": "adjacency"}),
    "GPS": ("GPS", {"heads": 4}),
}
# rows of table 4 as the benchmark's first public code builds them, at ten layers of its grid (experiment public_code)
PUBLIC_CODE: dict[str, tuple[str, dict]] = {
    "GCN, public code": ("GCN", {"bias": True, "readout": "mlp_leaky"}),
    "GraphSAGE, public code": ("GraphSAGE", {"bias": True, "readout": "mlp_leaky"}),
    "GIN, public code": ("GIN", {"mlp": "linear", "train_epsilon": True, "readout": "mlp_leaky"}),
    "GCNII, public code": ("GCNII", {"theta": None, "readout": "mlp_leaky"}),
    "A-DGN, public code": ("ADGN", {"epsilon": 0.1, "bias": True, "operator": "adjacency", "readout": "mlp_leaky"}),
}
# rows of table 2 and table 4 -> the labels among which the validation error chooses
TABLE_2: dict[str, tuple[str, ...]] = {  # the paper's six rows, and five that stand beside them here
    row: (row, f"{row}, sum") if f"{row}, sum" in PROPERTY_MODELS else (row,)
    for row in (*tuple(PROPERTY_MODELS)[:10], "sum-SSM, eig(Λ) = 1, identity")}
ABLATION = tuple(option for options in TABLE_2.values() for option in options)
ONE_SEED = ("k-hop GCN, sum", "kGCN-SSM, eig(Λ) = 1, orthogonal", "kGCN-SSM, eig(Λ) = 1, orthogonal, sum",
            "sum-SSM, eig(Λ) = 1, identity")  # beside the question of table 2: recorded with table 4, one seed
FOUR_SEEDS = tuple(option for option in ABLATION if option not in ONE_SEED)
TABLE_4: dict[str, tuple[str, ...]] = {
    "GCN": ("GCN",), "GAT": ("GAT",), "GraphSAGE": ("GraphSAGE",), "GIN": ("GIN", "GIN, linear"),
    "GCNII": ("GCNII", "GCNII, α = 0.5", "GCNII, β = 1"),
    "DGC": ("DGC, T = 1", "DGC, T = 5"), "GRAND": ("GRAND, ε = 0.1", "GRAND, ε = 0.1, nonlinear"),
    "GraphCON": ("GraphCON, ε = 1", "GraphCON, ε = 0.1, α = 0"),
    "A-DGN": ("A-DGN, ε = 0.1", "A-DGN, ε = 1", "A-DGN, ε = 0.1, sum"),
    "SWAN": ("SWAN, ε = 0.1", "SWAN, ε = 1, β = 1"), "PH-DGN": ("PH-DGN, ε = 0.1", "PH-DGN, ε = 0.1, sum"), "GPS": ("GPS",),
    "DRew-GCN": ("DRew-GCN",), "DRew-GCN + delay": ("DRew-GCN + delay",), "GCN-SSM": ("GCN-SSM",),
    "+ eig(Λ) ≈ 1": ("GCN-SSM, eig(Λ) = 1, identity",), "+ k-hop": TABLE_2["kGCN-SSM, eig(Λ) = 1, identity"],
}
# rows without a model of which table 2 has four seeds
ONLY_IN_TABLE_4 = tuple(row for row, options in TABLE_4.items() if not set(options) & set(FOUR_SEEDS))


def operators(batch: PropertyBatch, model: Network) -> tuple:
    """What ``model`` takes beside the features of ``batch``: ``(S,)`` or ``(shells,)``, made once for all steps."""
    if model.operator == "shells":
        return (batch_shell_operators(batch.distance, model.hops, kind=model.shell),)
    return (batch_operator(model.operator, batch.adjacency),)


@functools.lru_cache(maxsize=4)
def _splits(seed: int, device: str) -> dict[str, list[PropertyBatch]]:
    return {split: [batch.to(device) for batch in datasets.graph_property_batches(split, seed)]
            for split in ("train", "validation", "test")}


def batches(model: Network, target: str, scale: float, seed: int, device: str = "cpu") -> dict[str, list[Batch]]:
    """Training, validation and test batches of one target, labels divided by ``scale``, for one model."""
    return {split: [Batch(b.x, operators(b, model), b.labels[target] / scale) for b in groups]
            for split, groups in _splits(seed, device).items()}


def network(model: str, target: str, width: int, layers: int, seed: int, independent: bool = False) -> Network:
    """The network of a row of the tables: linear encoder, layers with tanh, two-layer readout.

    ``Λ`` and ``B`` are drawn from the stream of the weights, as they were when the runs of the tables were recorded;
    ``independent``: from a stream of their own (the experiment ``independent_draws`` measures the difference).
    """
    name, options = (PROPERTY_MODELS | PUBLIC_CODE)[model]
    activation = {} if name in UNACTIVATED else {"activation": "tanh"}
    return build(name, 2, 1, width, layers, level=level_of(target), seed=seed, state_seed=None if independent else seed,
                 **activation, **{"readout": "mlp"} | options)


def level_of(target: str) -> str:
    """``"graph"`` for the diameter, ``"node"`` for the other properties."""
    return "graph" if target == "diameter" else "node"


UNACTIVATED = ("DGC", "GRAND", "PHDGN")  # their layers have no σ to choose


def edge_distance(model: Network, groups: Sequence[Batch], graphs: int = 2) -> float:
    """Mean distance of the eigenvalues of the layers' Jacobians to the unit circle, ``mean | |eig| - 1 |``.

    Each Jacobian is taken at the features that its layer sees on one graph; the mean is over eigenvalues, layers and the
    first graph of ``graphs`` batches, in float64. NaN for DRew with delay, whose state is too large for it.
    """
    if any(layer.memory > 1 for layer in _each_layer(model) if isinstance(layer, DelayGCN)):
        return math.nan
    model = copy.deepcopy(model).double().eval()
    distances = []
    for batch in groups[:graphs]:
        graph = tuple(_first(argument) for argument in batch.graph)
        with torch.no_grad():
            h0 = model.encode(batch.x[0].double())
            states = list(model.states(h0, *graph)) if not _is_drew(model) else list(model.layers[0].states(h0, *graph))
        for layer, state in zip(_each_layer(model), states, strict=False):
            extra = (h0,) if getattr(layer, "needs_initial", False) else ()
            distances.append(edge_of_chaos_distance(eigenvalues(layer, state, *graph, *extra)))
    return float(np.mean(distances))


def _is_drew(model: Network) -> bool:
    return len(model.layers) > 0 and isinstance(model.layers[0], DRewGCN)


def _each_layer(model: Network) -> Sequence[torch.nn.Module]:
    return model.layers[0].layers if _is_drew(model) else model.layers


def _first(argument: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """The operator or the shells of the first graph of a batch, in float64."""
    return argument[0].double() if isinstance(argument, torch.Tensor) else [S[0].double() for S in argument]


def graph_properties_run(model: str, target: str, seed: int, width: int, layers: int, lr: float, epochs: int,
                         patience: int, normalised: bool, data_seed: int, device: str, independent: bool = False,
                         checkpoint: str | None = None) -> dict[str, object]:
    """One run: errors in label units squared, of the weights with the lowest validation error.

    With ``normalised`` the network learns labels divided by their training maximum, else the labels as they are;
    ``independent``: see :func:`network`.
    """
    flush_denormals()
    maximum = datasets.label_maximum(data_seed)[target]
    scale = maximum if normalised else 1.0
    net = network(model, target, width, layers, seed, independent).to(device)
    data = batches(net, target, scale, data_seed, device)
    config = TrainingConfig(max_epochs=epochs, patience=patience, lr=lr, weight_decay=1e-6, seed=seed)
    scores = train_regression(net, data["train"], data["validation"], data["test"], config, checkpoint=checkpoint)
    history = scores.pop("history")
    # By size, so that the mean over unequal batches that published evaluations take follows too (loader_score).
    scores |= {f"test_mse_{batch.x.shape[1]}": mean_squared_error(net, [batch]) for batch in data["test"]}
    scores = {name: value * scale**2 if "_mse" in name else value for name, value in scores.items()}
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    return scores | {"edge_distance": edge_distance(net, data["validation"]), "maximum": maximum, "parameters": parameters,
                     "history": history.to_dict("list")}


def _setting(models: Sequence[str], targets: Sequence[str], seeds: Sequence[int], **changes: object) -> list[dict]:
    """The configurations of :func:`graph_properties_run` for some models, targets and seeds: ``SETTING`` with changes."""
    return grid(seed=seeds, model=models, target=targets, **{key: [value] for key, value in (SETTING | changes).items()})


def graph_properties(models: Sequence[str] = FOUR_SEEDS, targets: Sequence[str] = TARGETS,
                     seeds: Sequence[int] = (0, 1, 2, 3), width: int = 20, layers: int = 10, lr: float = 0.003,
                     epochs: int = 1500, patience: int = 100, normalised: bool = True, data_seed: int = 1234,
                     device: str = "cpu", jobs: int = 1, executor: Executor | None = None,
                     progress: bool = False) -> pd.DataFrame:
    """Errors on the graph-property benchmark in the setting of the paper's appendix C.

    Returns:
        a row a run: model, target, seed, ``test_mse`` (label units squared), ``maximum`` (of the training labels, so that
        the error on normalised labels is ``test_mse / maximum**2``), best_epoch, parameters, ...
    """
    runs = _setting(models, targets, seeds, width=width, layers=layers, lr=lr, epochs=epochs, patience=patience,
                    normalised=normalised, data_seed=data_seed, device=device)
    done = sweep("graph_properties", graph_properties_run, runs, progress=progress, jobs=jobs, executor=executor)
    # Early runs also hold a distance before training, on fewer graphs than after it: see initial_edge_distance.
    return done.drop(columns="edge_distance_at_first", errors="ignore")


def independent_draws(models: Sequence[str] = ("GCN-SSM, eig(Λ) = 1, identity", "kGCN-SSM, eig(Λ) = 1, identity, sum"),
                      targets: Sequence[str] = TARGETS, seeds: Sequence[int] = (0, 1, 2, 3), epochs: int = 1500,
                      device: str = "cpu", jobs: int = 1, executor: Executor | None = None,
                      progress: bool = False) -> pd.DataFrame:
    """:func:`graph_properties` with ``Λ`` and ``B`` from a stream of their own: do the tables depend on it?

    In the other runs ``Λ`` and ``B`` repeat, up to their scale, numbers of the encoder, the readout and the couplings.

    Args, Returns: as :func:`graph_properties`.
    """
    runs = [config | {"independent": True} for config in _setting(models, targets, seeds, epochs=epochs, device=device)]
    return sweep("graph_properties", graph_properties_run, runs, progress=progress, jobs=jobs, executor=executor)


def loader_score(runs: pd.DataFrame) -> pd.Series:
    """The test error as a loader of batches of 512 reports it: the last, smaller batch weighs as much as the others.

    The test set has 256 graphs of each size from 25 to 29 nodes, in this order: batches of 512, 512 and 256.
    """
    sizes = [runs[f"test_mse_{size}"] for size in range(25, 30)]
    return ((sizes[0] + sizes[1]) / 2 + (sizes[2] + sizes[3]) / 2 + sizes[4]) / 3


def table_4(models: Sequence[str] = tuple(PROPERTY_MODELS), targets: Sequence[str] = TARGETS, seeds: Sequence[int] = (0,),
            epochs: int = 1500, device: str = "cpu", jobs: int = 1, executor: Executor | None = None,
            progress: bool = False) -> pd.DataFrame:
    """Every model of the paper's table 4 and every option of it: :func:`graph_properties` with fewer seeds.

    Args, Returns: as :func:`graph_properties`, which shares its runs.
    """
    return graph_properties(models, targets, seeds, epochs=epochs, device=device, jobs=jobs, executor=executor,
                            progress=progress)


def kept_options(rows: Sequence[str], targets: Sequence[str] = TARGETS) -> dict[tuple[str, str], str]:
    """The option that validation keeps for each row of table 4 and each target, by the recorded runs of seed 0.

    Args:
        rows: a list of keys of ``TABLE_4``.
        targets: a list, of ``TARGETS``.

    Returns:
        ``(row, target) -> model``, without the pairs that have no recorded run.

    Raises:
        TypeError: one name in place of a list.
        ValueError: a row that table 4 does not have, or another target.
    """
    for name, asked, known in (("rows", rows, tuple(TABLE_4)), ("targets", targets, TARGETS)):
        if isinstance(asked, str):
            raise TypeError(f"{name} must be a list of names; it was {asked!r}")
        for value in asked:
            check_choice(name, value, known)
    row_of = {model: row for row in rows for model in TABLE_4[row]}
    runs = results("table_4").query("seed == 0")
    runs = runs.assign(row=runs.model.map(row_of)).dropna(subset="row")
    kept = runs[chosen(runs, ["row", "target"], "model", "val_mse")].set_index(["row", "target"]).model
    return {(row, target): kept[row, target] for row in rows for target in targets if (row, target) in kept.index}


def second_seeds(rows: Sequence[str] = ONLY_IN_TABLE_4, targets: Sequence[str] = TARGETS, seeds: Sequence[int] = (1,),
                 epochs: int = 1500, device: str = "cpu", jobs: int = 1, executor: Executor | None = None,
                 progress: bool = False) -> pd.DataFrame:
    """A second seed for the rows of table 4 that are not in table 2: of each, the option that validation kept with seed 0.

    Args, Returns: as ``graph_properties``, which shares its runs; ``rows`` are keys of ``TABLE_4``.
    """
    runs = [config for (_, target), model in kept_options(rows, targets).items()
            for config in _setting([model], [target], seeds, epochs=epochs, device=device)]
    return sweep("graph_properties", graph_properties_run, runs, progress=progress, jobs=jobs, executor=executor)


def raw_labels(models: Sequence[str] = ("GCN", "GraphSAGE", "GIN", "A-DGN, ε = 0.1"), targets: Sequence[str] = TARGETS,
               seeds: Sequence[int] = (0,), epochs: int = 1500, device: str = "cpu", jobs: int = 1,
               executor: Executor | None = None, progress: bool = False) -> pd.DataFrame:
    """:func:`graph_properties` trained on labels as they are: what does it matter on which scale a network learns?

    Args, Returns: as :func:`graph_properties`.
    """
    return graph_properties(models, targets, seeds, epochs=epochs, normalised=False, device=device, jobs=jobs,
                            executor=executor, progress=progress)


def public_code(models: Sequence[str] = tuple(PUBLIC_CODE), targets: Sequence[str] = TARGETS, seeds: Sequence[int] = (0,),
                epochs: int = 1500, device: str = "cpu", jobs: int = 1, executor: Executor | None = None,
                progress: bool = False) -> pd.DataFrame:
    """:func:`raw_labels` of networks as the benchmark's first public code builds them: what do our differences matter?

    Biases, one linear map in GIN, β = 1 in GCNII, plain sums in A-DGN, and a readout of half the width with another
    LeakyReLU on its output.

    Args, Returns: as :func:`graph_properties`.
    """
    return raw_labels(models, targets, seeds, epochs, device, jobs, executor, progress)


def initial_edge_distance_run(model: str, level: str, seed: int, width: int, layers: int, data_seed: int,
                              device: str) -> dict[str, object]:
    """The distance to the edge of chaos of one network before its first step."""
    flush_denormals()
    target = "diameter" if level == "graph" else "sssp"  # labels play no part, but the layers' random draws differ by level
    net = network(model, target, width, layers, seed).to(device)
    return {"edge_distance": edge_distance(net, batches(net, target, 1.0, data_seed, device)["validation"])}


def initial_edge_distance(models: Sequence[str] = tuple(m for m in PROPERTY_MODELS if m != "DRew-GCN + delay"),
                          levels: Sequence[str] = ("node", "graph"), seeds: Sequence[int] = (0,), width: int = 20,
                          layers: int = 10, data_seed: int = 1234, device: str = "cpu", jobs: int = 1,
                          executor: Executor | None = None, progress: bool = False) -> pd.DataFrame:
    """Where the networks of :func:`graph_properties` start: :func:`edge_distance` on the same graphs as after training.

    Returns:
        a row a network: model, level (of the readout), seed, ``edge_distance``.
    """
    runs = grid(seed=seeds, model=models, level=levels, width=[width], layers=[layers], data_seed=[data_seed],
                device=[device])
    return sweep("initial_edge_distance", initial_edge_distance_run, runs, progress=progress, jobs=jobs, executor=executor)


def adgn_gamma_run(gamma: float, target: str, seed: int, every: int, width: int, layers: int, lr: float, epochs: int,
                   patience: int, data_seed: int, device: str, checkpoint: str | None = None) -> dict[str, object]:
    """One run of A-DGN whose history holds the distance to the edge of chaos after every ``every``-th epoch."""
    flush_denormals()
    maximum = datasets.label_maximum(data_seed)[target]
    net = build("ADGN", 2, 1, width, layers, level=level_of(target), readout="mlp", seed=seed, gamma=gamma).to(device)
    data = batches(net, target, maximum, data_seed, device)

    def watch(model: torch.nn.Module, epoch: int) -> dict[str, float]:
        return {"edge_distance": edge_distance(model, data["validation"], 1) if epoch % every == 0 else math.nan}

    config = TrainingConfig(max_epochs=epochs, patience=patience, lr=lr, weight_decay=1e-6, seed=seed)
    at_first = edge_distance(net, data["validation"], 1)
    scores = train_regression(net, data["train"], data["validation"], data["test"], config, checkpoint=checkpoint,
                              watch=watch)
    history = scores.pop("history")[lambda frame: frame.epoch % every == 0]
    return {name: value * maximum**2 if name.endswith("_mse") else value for name, value in scores.items()} | {
        "maximum": maximum, "edge_distance_at_first": at_first, "history": history.to_dict("list")}


def adgn_gamma(gammas: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0), targets: Sequence[str] = TARGETS,
               seeds: Sequence[int] = (0,), every: int = 10, width: int = 20, layers: int = 10, lr: float = 0.003,
               epochs: int = 500, patience: int = 100, data_seed: int = 1234, device: str = "cpu", jobs: int = 1,
               executor: Executor | None = None, progress: bool = False) -> pd.DataFrame:
    """A-DGN for several γ: distance to the edge of chaos and validation error during training (the paper's figure 16).

    Returns:
        a row for every recorded epoch of every run: gamma, target, seed, epoch, ``edge_distance``, ``validation`` (on
        labels divided by their training maximum), ``test_mse`` (of the run, label units squared).
    """
    runs = grid(seed=seeds, target=targets, gamma=gammas, every=[every], width=[width], layers=[layers], lr=[lr],
                epochs=[epochs], patience=[patience], data_seed=[data_seed], device=[device])
    done = sweep("adgn_gamma", adgn_gamma_run, runs, progress=progress, jobs=jobs, executor=executor)
    epochs_of = histories("adgn_gamma", runs)
    columns = ["gamma", "target", "seed", "test_mse", "maximum", "edge_distance_at_first"]
    return epochs_of.merge(done[columns], on=["gamma", "target", "seed"])
