"""Recorded experiments: run one, or read what was recorded.

>>> from gnnssm_lite import experiments
>>> experiments.names()
>>> frame = experiments.results("lemma_3_1")
"""
from __future__ import annotations

import difflib
import importlib

import pandas as pd

from .records import provenance, results

# name -> module that holds the function of the same name
EXPERIMENTS = {"lemma_3_1": "section3", "theorem_3_2": "section3", "proposition_3_3": "section3",
               "trained_jacobians": "figure6", "cora_depth": "oversmoothing",
               "jacobian_figures": "jacobian_figures", "contractions": "section4", "energy_decay": "section4",
               "assumption": "section4", "decay_rates": "section4", "ring_transfer_accuracy": "transfer",
               "theorem_5_1": "section5", "proposition_9_a": "section5", "sensitivity_distance": "section5",
               "graph_properties": "graph_properties", "table_4": "graph_properties", "second_seeds": "graph_properties",
               "raw_labels": "graph_properties",
               "public_code": "graph_properties", "independent_draws": "graph_properties",
               "initial_edge_distance": "graph_properties", "adgn_gamma": "graph_properties",
               "published_tables": "reading", "training_speed": "speed"}


def names() -> list[str]:
    """The experiments that can be run."""
    return sorted(EXPERIMENTS)


def run(name: str, **options: object) -> pd.DataFrame:
    """Run the experiment ``name`` with its options and return tidy results; nothing is written.

    Raises:
        ValueError: an unknown name, with the nearest known one.
        TypeError: an option that the experiment does not take.
    """
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(str(name), EXPERIMENTS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name must be one of {names()}; it was {name!r}{hint}")
    module = importlib.import_module(f".{EXPERIMENTS[name]}", __package__)
    return getattr(module, name)(**options)


__all__ = ["EXPERIMENTS", "names", "provenance", "results", "run"]
