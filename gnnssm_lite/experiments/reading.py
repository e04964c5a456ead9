"""The published tables beside our runs, cell by cell, under two readings of their columns (chapter 12)."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .. import datasets
from ..checks import check_choice
from . import published
from .graph_properties import PUBLIC_CODE, TABLE_4, loader_score
from .records import results
from .runner import chosen

QUICK = {"published_tables": {}}  # it takes a second
# reading -> published column -> the label that it is read to hold
READINGS = {"as named": {column: column for column in published.COLUMNS},
            "shifted": {"diameter": "diameter", "sssp": "laplacian", "eccentricity": "sssp"}}
# Which of our models stand for a printed row. Sums over shells (chapter 10) are left out: the public code normalises.
AUDITED = {row: tuple(model for model in models if not (row == "+ k-hop" and model.endswith(", sum")))
           for row, models in TABLE_4.items()}
# The rows that one more experiment has as the benchmark's first public code builds them.
AS_PUBLIC = {model.removesuffix(", public code"): (model,) for model in PUBLIC_CODE}
# Rows that are variants of one model are no independent witnesses.
FAMILY = {row: "DRew" if row.startswith("DRew") else "GCN-SSM" if row in ("GCN-SSM", "+ eig(Λ) ≈ 1", "+ k-hop") else row
          for row in TABLE_4}
LOADER_BATCH = 512  # graphs in a batch of the first public evaluation, which averages over batches
# A printed number counts as met within two printed standard deviations, but not less than 0.1 or more than 0.3 (log10).
WITHIN, AT_MOST = 0.1, 0.3
WORDS = {"laplacian": "LX", "sssp": "SSSP", "eccentricity": "eccentricity", "diameter": "diameter"}
# They share runs: table 4 has every model, table 2 more seeds of some, the third another seed of what validation kept.
RECORDS = ("graph_properties", "table_4", "second_seeds")


def recorded_runs(names: str | Sequence[str] = RECORDS) -> pd.DataFrame:
    """The recorded runs of the graph-property benchmark, each once.

    Args:
        names: of the records to read, or one name.

    Returns:
        One row per run, as ``experiments.results("graph_properties")`` gives them.
    """
    names = [names] if isinstance(names, str) else names
    runs = pd.concat([results(name) for name in names], ignore_index=True)
    # Not the epochs: the record says after how many a run has ended.
    setting = ["model", "target", "seed", "width", "layers", "lr", "patience", "normalised", "data_seed", "independent"]
    return runs.drop_duplicates([column for column in setting if column in runs], ignore_index=True)


def runs_of_rows(runs: pd.DataFrame, options: dict[str, tuple[str, ...]] = AUDITED,
                 normalised: bool = True) -> pd.DataFrame:
    """The runs that stand for the rows of table 4: of each row's options the one with the lowest mean validation error
    over the seeds that all of them have.

    Args:
        runs: as :func:`recorded_runs` gives them; those of other depths than ten are left out.
        options: row -> the models that may stand for it; by default those of ``TABLE_4`` without sums over shells, which
            the public code does not have.
        normalised: whether to take the runs trained on normalised labels or those on labels as they are.

    Returns:
        The runs kept, with ``row`` (a key of ``TABLE_4``), ``option`` (model and width) and ``score``: log10 of the test
        error on raw labels, averaged as the first public evaluation does.

    Raises:
        ValueError: a column is missing, a row is none of table 4, or a model has two runs of one seed, target and width.
    """
    absent = [column for column in ("model", "target", "seed", "width", "layers", "normalised", "val_mse", "maximum")
              if column not in runs]
    if absent:
        raise ValueError(f"runs must have the columns {absent}; it has {list(runs)}")
    for name in options:
        check_choice("options", name, tuple(TABLE_4))
    runs = runs[(runs.normalised.astype(bool) == normalised) & (runs.layers == 10)]
    row = runs.model.map({model: row for row, models in options.items() for model in models})
    runs = runs.assign(row=row, option=runs.model + ", width " + runs.width.astype(str),
                       score=np.log10(loader_score(runs))).dropna(subset="row")
    twice = runs[runs.duplicated(["option", "target", "seed"])]
    if len(twice):
        raise ValueError(f"runs must hold one run of each option, target and seed; two are of {twice.option.iloc[0]}, "
                         f"{twice.target.iloc[0]}, seed {twice.seed.iloc[0]}")
    return runs[chosen(runs, ["row", "target"], "option", "val_mse", paired="seed")]


def scales() -> dict[str, str]:
    """Each row of table 4 and the label scale on which it is read: ``"raw"`` or ``"normalised"``.

    Raw, if its diameter would be worse than a constant prediction on normalised labels. The constants leave the other rows
    open; they are read as normalised, for which chapter 12 gives the reason.
    """
    constant = datasets.constant_scores("test", batch_size=LOADER_BATCH)["diameter"]["normalised"]
    diameters = published.table(4)[lambda cells: cells.column == "diameter"].set_index("label")["mean"]
    return {row: "raw" if mean > constant else "normalised" for row, mean in diameters.items()}


def published_tables(runs: pd.DataFrame | Sequence[str] = RECORDS) -> pd.DataFrame:
    """Every printed cell of the paper's tables 2 and 4 beside our runs, with a verdict.

    A printed number is *met* by a label if our mean over seeds, on the scale of the row, is within two printed standard
    deviations of it, but not less than 0.1 or more than 0.3. The verdict is ``"holds"`` if the label of the column's name
    meets it, else ``"differs"``; ``"open"`` as long as that label or that of the shifted reading has no runs. The note says
    whether the shifted reading meets it, and on how many seeds all this rests.

    Args:
        runs: of the graph-property benchmark, or the names of their records.

    Returns:
        One row per cell, with ``table``, ``row``, ``column``, ``paper``, ``paper_std``, ``scale``, ``tolerance``, ``ours``,
        ``ours_std``, ``runs`` and ``model`` (as named), the same with ``shifted_``, ``verdict``, ``note``.
    """
    runs = runs_of_rows(runs if isinstance(runs, pd.DataFrame) else recorded_runs(runs))
    ours = runs.assign(shift=2 * np.log10(runs.maximum)).groupby(["row", "target"]).agg(
        ours=("score", "mean"), std=("score", "std"), runs=("score", "size"), shift=("shift", "first"),
        model=("model", "first"))
    scale_of = scales()
    cells = pd.concat([published.table(number).assign(table=number) for number in published.TABLES])
    return pd.DataFrame([_cell(cell, ours, scale_of[cell.label]) for cell in cells.itertuples()])


def _cell(cell: object, ours: pd.DataFrame, scale: str) -> dict[str, object]:
    tolerance = WITHIN if math.isnan(cell.std) else min(max(WITHIN, 2 * cell.std), AT_MOST)
    named, shifted = (_score(ours, cell.label, meaning[cell.column], scale) for meaning in READINGS.values())
    seeds = named["runs"], shifted["runs"]
    met = {word: abs(found["ours"] - cell.mean) <= tolerance for word, found in (("named", named), ("shifted", shifted))}
    verdict = "open" if 0 in seeds else "holds" if met["named"] else "differs"
    return {"table": cell.table, "row": cell.row, "column": cell.column, "paper": cell.mean, "paper_std": cell.std,
            "scale": scale, "tolerance": tolerance, **named, **{f"shifted_{key}": value for key, value in shifted.items()},
            "verdict": verdict, "note": _note(verdict, met["shifted"], cell.column, scale, seeds)}


def _score(ours: pd.DataFrame, row: str, target: str, scale: str) -> dict[str, object]:
    if (row, target) not in ours.index:
        return {"ours": math.nan, "ours_std": math.nan, "runs": 0, "model": ""}
    found = ours.loc[(row, target)]
    score = found.ours - (found["shift"] if scale == "normalised" else 0.0)
    return {"ours": score, "ours_std": found["std"], "runs": int(found.runs), "model": found.model}


def _note(verdict: str, shifted: bool, column: str, scale: str, seeds: tuple[int, int]) -> str:
    """The verdict in words, for the ledger; ``seeds``: how many of our runs there are as named and as shifted."""
    if verdict == "open":
        return ""
    converted = " and converted to raw ones" if scale == "raw" else ""
    words = (f"Our mean of {_runs(seeds[0])}, trained on normalised labels{converted}, is "
             f"{'within' if verdict == 'holds' else 'outside'} the tolerance")
    if column == "diameter":
        return words + "."
    label = WORDS[READINGS["shifted"][column]] + (f", of {_runs(seeds[1])}," if seeds[1] != seeds[0] else "")
    if verdict == "holds":
        return words + (f"; that of {label} is, too: the cell does not tell the two apart (chapter 12)." if shifted else ".")
    return words + f" as named; that of {label} is {'within' if shifted else 'outside, too'} (chapter 12)."


def _runs(number: int) -> str:
    return f"{number} run{'s' if number > 1 else ''}"
