"""The published tables beside our runs, cell by cell, under two readings of their columns (chapter 12)."""
from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .. import datasets
from . import published
from .graph_properties import TABLE_4, loader_score
from .records import results
from .runner import chosen

QUICK = {"published_tables": {}}  # it takes a second
# reading -> published column -> the label that it is read to hold
READINGS = {"as named": {column: column for column in published.COLUMNS},
            "shifted": {"diameter": "diameter", "sssp": "laplacian", "eccentricity": "sssp"}}
LOADER_BATCH = 512  # graphs in a batch of the public evaluation, whose mean over batches the published numbers are
WITHIN = 0.1  # log10 units within which a printed number counts as met, or two printed standard deviations if that is more
WORDS = {"laplacian": "LX", "sssp": "SSSP", "eccentricity": "eccentricity", "diameter": "diameter"}


def runs_of_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that stand for the rows of table 4: of each row's options the one with the lowest mean validation error.

    Args:
        runs: as :func:`~gnnssm_lite.experiments.graph_properties.graph_properties` returns them; those on labels as they
            are, and of other depths than ten, are left out.

    Returns:
        The runs kept, with ``row`` (a key of ``TABLE_4``), ``option`` (model and width) and ``score``: log10 of the test
        error on raw labels, averaged as the public evaluation does.
    """
    runs = runs[runs.normalised.astype(bool) & (runs.layers == 10)]
    row = runs.model.map({model: row for row, models in TABLE_4.items() for model in models})
    runs = runs.assign(row=row, option=runs.model + ", width " + runs.width.astype(str),
                       score=np.log10(loader_score(runs))).dropna(subset="row")
    return runs[chosen(runs, ["row", "target"], "option", "val_mse")]


def scales() -> dict[str, str]:
    """Each row of table 4 and its label scale by the constants alone: ``"raw"`` or ``"normalised"``.

    A row whose diameter would be worse than a constant prediction on normalised labels is read as raw (chapter 12).
    """
    constant = datasets.constant_scores("test", batch_size=LOADER_BATCH)["diameter"]["normalised"]
    diameters = published.table(4)[lambda cells: cells.column == "diameter"].set_index("label")["mean"]
    return {row: "raw" if mean > constant else "normalised" for row, mean in diameters.items()}


def published_tables(runs: pd.DataFrame | str = "graph_properties") -> pd.DataFrame:
    """Every printed cell of the paper's tables 2 and 4 beside our runs, with a verdict.

    A printed number is *met* by a label if our mean over seeds, on the scale of the row, is within 0.1 of it, or within
    two printed standard deviations if that is more. The verdict is ``"holds"`` if the label of the column's name meets it,
    ``"holds with a correction"`` if only the label of the shifted reading does, else ``"differs"``; ``"open"`` as long as
    one of the two has no runs.

    Args:
        runs: of the graph-property benchmark, or the name of their record.

    Returns:
        a row for each cell: ``table``, ``row``, ``column``, ``paper``, ``paper_std``, ``scale``, ``tolerance``, ``ours``,
        ``ours_std``, ``runs`` and ``model`` (as named), the same with ``shifted_``, ``verdict``, ``note``.
    """
    runs = runs_of_rows(results(runs) if isinstance(runs, str) else runs)
    ours = runs.assign(shift=2 * np.log10(runs.maximum)).groupby(["row", "target"]).agg(
        ours=("score", "mean"), std=("score", "std"), runs=("score", "size"), shift=("shift", "first"),
        model=("model", "first"))
    scale_of = scales()
    cells = pd.concat([published.table(number).assign(table=number) for number in published.TABLES])
    return pd.DataFrame([_cell(cell, ours, scale_of[cell.label]) for cell in cells.itertuples()])


def _cell(cell: object, ours: pd.DataFrame, scale: str) -> dict[str, object]:
    tolerance = WITHIN if math.isnan(cell.std) else max(WITHIN, 2 * cell.std)
    named, shifted = (_score(ours, cell.label, meaning[cell.column], scale) for meaning in READINGS.values())
    met = {word: abs(found["ours"] - cell.mean) <= tolerance for word, found in (("named", named), ("shifted", shifted))}
    verdict = "open" if 0 in (named["runs"], shifted["runs"]) else _verdict(**met)
    return {"table": cell.table, "row": cell.row, "column": cell.column, "paper": cell.mean, "paper_std": cell.std,
            "scale": scale, "tolerance": tolerance, **named, **{f"shifted_{key}": value for key, value in shifted.items()},
            "verdict": verdict, "note": _note(verdict, met["shifted"], cell.column, scale)}


def _score(ours: pd.DataFrame, row: str, target: str, scale: str) -> dict[str, object]:
    if (row, target) not in ours.index:
        return {"ours": math.nan, "ours_std": math.nan, "runs": 0, "model": ""}
    found = ours.loc[(row, target)]
    score = found.ours - (found["shift"] if scale == "normalised" else 0.0)
    return {"ours": score, "ours_std": found["std"], "runs": int(found.runs), "model": found.model}


def _verdict(named: bool, shifted: bool) -> str:
    return "holds" if named else "holds with a correction" if shifted else "differs"


def _note(verdict: str, shifted: bool, column: str, scale: str) -> str:
    """The verdict in words, for the ledger."""
    label, one_reading = WORDS[READINGS["shifted"][column]], column == "diameter"
    if verdict == "holds":
        too = f"; read as {label} (chapter 12) they are within it, too" if shifted and not one_reading else ""
        return f"On {scale} labels our runs are within the tolerance{too}."
    if verdict == "holds with a correction":
        return f"On {scale} labels our runs are outside the tolerance as named, within it read as {label} (chapter 12)."
    both = "" if one_reading else f", as named and read as {label} (chapter 12)"
    return f"On {scale} labels our runs are outside the tolerance{both}." if verdict == "differs" else ""
