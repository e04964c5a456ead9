r"""Which label does a printed column hold? Our runs as witnesses: residuals, likelihoods, families of models (chapter 12).

A *meaning* says which label each printed column holds, such as ``{"sssp": "laplacian", "eccentricity": "sssp"}``.
"""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from ..checks import check_choice
from . import published
from .graph_properties import TABLE_4, TARGETS
from .reading import AUDITED, FAMILY, WORDS, runs_of_rows, scales

NODE = ("sssp", "eccentricity", "laplacian")  # the labels that a node column may hold
COLUMNS = ("sssp", "eccentricity")  # the columns in doubt, by their printed names
MEANINGS = tuple({"sssp": a, "eccentricity": b} for a, b in itertools.permutations(NODE, 2))
SCALES = ("raw", "normalised")
PRINTED_RUNS = 4  # of which the paper prints mean and standard deviation, that of a population
# Error scales τ that a reading may choose from. Another draw of the data alone moves a score by about 0.02.
TAU = np.geomspace(0.02, 10, 1000)
# When our runs are taken as evidence: lead in nats, ratio of the residuals of the next label and the nearest.
LEAD, RATIO = 2.0, 1.25

Density = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Comparison:
    r"""Printed scores beside ours, one row of table 4 each.

    Attributes:
        printed, printed_std: row × printed column, :math:`\log_{10}` of the error on the scale of the row.
        ours, ours_std, runs: row × label: mean on raw labels, standard deviation over seeds (0 for one), number of seeds.
        shift: label → :math:`2 \log_{10} y_{\max}`, by which a score on normalised labels is lower (Eq. 12.B).
        scale: row → ``"raw"`` or ``"normalised"``.

    Raises:
        ValueError: another scale, or a row without one.
    """

    printed: pd.DataFrame
    printed_std: pd.DataFrame
    ours: pd.DataFrame
    ours_std: pd.DataFrame
    runs: pd.DataFrame
    shift: pd.Series
    scale: pd.Series

    def __post_init__(self) -> None:
        wrong = self.scale[~self.scale.isin(SCALES)]
        if len(wrong):
            raise ValueError(f"scale must be 'raw' or 'normalised' for every row; it was {wrong.to_dict()}")

    @property
    def rows(self) -> list[str]:
        """The rows, in the order of table 4."""
        return list(self.printed.index)

    @property
    def family(self) -> pd.Series:
        """Row → family: rows of one family are variants of one model."""
        return pd.Series(FAMILY)[self.rows]

    def only(self, rows: Sequence[str]) -> Comparison:
        """The same for some of the rows.

        Raises:
            KeyError: a row that is not there.
        """
        of_rows = ("printed", "printed_std", "ours", "ours_std", "runs", "scale")
        return dataclasses.replace(self, **{name: getattr(self, name).loc[list(rows)] for name in of_rows})

    def without(self, *families: str) -> Comparison:
        """The same without the rows of some families.

        Raises:
            ValueError: a family that is not there.
        """
        for family in families:
            check_choice("families", family, tuple(self.family.unique()))
        return self.only(self.family.index[~self.family.isin(families)])

    def block(self, scale: str) -> Comparison:
        """The rows that are read on one scale."""
        return self.only(self.scale.index[self.scale == scale])

    def on(self, scale: str | pd.Series) -> Comparison:
        """The same rows read on another scale: one for all, or row → scale.

        Raises:
            ValueError: neither ``"raw"`` nor ``"normalised"``, or a row without a scale.
        """
        return dataclasses.replace(self, scale=pd.Series(scale, self.rows))

    def replaced(self, runs: pd.DataFrame) -> Comparison:
        """The same with other runs of ours where there are any: their mean, spread and number.

        Args:
            runs: as :func:`~gnnssm_lite.experiments.reading.runs_of_rows` gives them.
        """
        mean, std, count = (_by_row(runs, how).reindex_like(self.ours) for how in ("mean", "std", "count"))
        there = mean.notna()
        return dataclasses.replace(self, ours=self.ours.mask(there, mean), runs=self.runs.mask(there, count),
                                   ours_std=self.ours_std.mask(there, std.fillna(0.0)))

    def residuals(self, meaning: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        r"""``e`` and ``s`` of Eq. (12.C), row × column: printed number less our score of the label, and run-to-run noise.

        With four printed runs of standard deviation ``std`` (of a population) and ``k`` of ours,
        :math:`s^2 = \max(\tfrac43 \text{std}^2, \text{ours\_std}^2) (\tfrac14 + \tfrac1k)`.

        Args:
            meaning: printed column → label.

        Raises:
            ValueError: a row without a printed number or without runs of the label.
        """
        normalised = (self.scale == "normalised").astype(float)
        e = {column: self.printed[column] - self.ours[label] + normalised * self.shift[label]
             for column, label in meaning.items()}
        without = pd.DataFrame(e).isna().any(axis=1)
        if without.any():
            raise ValueError(f"every row must have a printed number and runs of {', '.join(meaning.values())}; "
                             f"these have not: {', '.join(without.index[without])}")
        one_run = math.sqrt(PRINTED_RUNS / (PRINTED_RUNS - 1))
        s = {column: np.maximum(self.printed_std[column].fillna(0) * one_run, self.ours_std[label])
             * np.sqrt(1 / PRINTED_RUNS + 1 / self.runs[label]) for column, label in meaning.items()}
        return pd.DataFrame(e), pd.DataFrame(s)


def comparison(runs: pd.DataFrame, options: dict[str, tuple[str, ...]] = AUDITED,
               scale: dict[str, str] | pd.Series | None = None) -> Comparison:
    """The rows of table 4 for which there are runs of all three node labels, beside these runs.

    Args:
        runs: as :func:`~gnnssm_lite.experiments.reading.recorded_runs` gives them; those on normalised labels count.
        options: row → the models that may stand for it; validation chooses.
        scale: row → ``"raw"`` or ``"normalised"``; by default as :func:`~gnnssm_lite.experiments.reading.scales` has it.
    """
    rows, kept, printed = list(TABLE_4), runs_of_rows(runs, options), published.table(4)
    mean, std = (printed.pivot(index="label", columns="column", values=value).loc[rows] for value in ("mean", "std"))
    ours, ours_std, count = (_by_row(kept, how) for how in ("mean", "std", "count"))
    every = Comparison(mean, std, ours, ours_std.fillna(0.0), count, 2 * np.log10(kept.groupby("target").maximum.first()),
                       pd.Series(scales() if scale is None else scale)[rows])
    return every.only(ours.index[ours[list(NODE)].notna().all(axis=1)])


def mean_scores(runs: pd.DataFrame) -> pd.DataFrame:
    """Row × label: mean of ``score`` over the runs that stand for a row (``runs_of_rows`` gives them), NaN without runs."""
    return _by_row(runs, "mean")


def _by_row(runs: pd.DataFrame, how: str) -> pd.DataFrame:
    return runs.groupby(["row", "target"]).score.agg(how).unstack().reindex(index=list(TABLE_4), columns=TARGETS)


# ------------------------------------------------------------------------------------------------ likelihood

def normal(e: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Eq. (12.C) for every τ of ``TAU``: the log-likelihood of residuals ``e`` with noise ``s``, arrays of one shape."""
    variance = TAU.reshape(-1, *[1] * e.ndim) ** 2 + s**2
    return -0.5 * (np.log(2 * np.pi * variance) + e**2 / variance).reshape(len(TAU), -1).sum(1)


def heavy_tailed(e: np.ndarray, s: np.ndarray) -> np.ndarray:
    """As :func:`normal` with Student's t of three degrees of freedom in place of the normal distribution."""
    width = np.sqrt(TAU.reshape(-1, *[1] * e.ndim) ** 2 + s**2)
    return (student_t(3).logpdf(e / width) - np.log(width)).reshape(len(TAU), -1).sum(1)


def profile(data: Comparison, meaning: dict[str, str]) -> np.ndarray:
    """Eq. (12.C) of one meaning for every τ of ``TAU``."""
    e, s = data.residuals(meaning)
    return normal(e.to_numpy(), s.to_numpy())


def labels_of(data: Comparison, column: str, density: Density = normal, centred: bool = False) -> pd.DataFrame:
    """How near our runs of each node label are to one printed column.

    Args:
        data: the rows that are asked.
        column: ``"sssp"`` or ``"eccentricity"``, the printed name.
        density: :func:`normal` or :func:`heavy_tailed`.
        centred: give the rows of each scale an offset of their own.

    Returns:
        a row for each label of ``NODE``: ``rms`` (root mean square residual), ``log-likelihood`` (the best over τ), ``τ``.

    Raises:
        ValueError: another column.
    """
    check_choice("column", column, COLUMNS)
    found = {}
    for label in NODE:
        e, s = (part[column] for part in data.residuals({column: label}))
        if centred:
            e = e - e.groupby(data.scale).transform("mean")
        likelihood = density(e.to_numpy(), s.to_numpy())
        found[label] = {"rms": math.sqrt((e**2).mean()), "log-likelihood": likelihood.max(), "τ": TAU[likelihood.argmax()]}
    return pd.DataFrame(found).T


def nearest(labels: pd.DataFrame) -> tuple[str, float, float]:
    """The label with the highest likelihood, its lead in nats, and how many times larger the next label's residual is.

    Args:
        labels: as :func:`labels_of` gives it.
    """
    first, second = labels["log-likelihood"].nlargest(2).index
    return (first, labels["log-likelihood"][first] - labels["log-likelihood"][second],
            labels["rms"][second] / labels["rms"][first])


# -------------------------------------------------------------------------------------------------- families

def squares(data: Comparison, column: str) -> pd.DataFrame:
    """Squared residuals of one printed column, row × label, and of ``"no reading"``.

    No reading: guess a printed number as the mean of the other rows on its scale.

    Raises:
        ValueError: a scale with one row only, whose number nothing guesses.
    """
    number, count = data.printed[column], data.scale.map(data.scale.value_counts())
    if (count < 2).any():
        raise ValueError(f"data must have two rows of each scale; it has {data.scale.value_counts().to_dict()}")
    others = (number.groupby(data.scale).transform("sum") - number) / (count - 1)
    labels = {label: data.residuals({column: label})[0][column] ** 2 for label in NODE}
    return pd.DataFrame(labels | {"no reading": (number - others) ** 2})


def vote_of_families(data: Comparison, column: str) -> pd.Series:
    """Family → the label that is nearest to its rows alone, by the root mean square residual."""
    return squares(data, column)[list(NODE)].groupby(data.family, sort=False).mean().idxmin(axis=1)


def families_drawn_again(data: Comparison, column: str, draws: int = 4000, seed: int = 0) -> pd.DataFrame:
    """A bootstrap: as many families, drawn with replacement; sums of their squared residuals.

    Returns:
        a row a draw: the columns of :func:`squares`, and ``nearest``, the label with the smallest sum.
    """
    of_family = squares(data, column).groupby(data.family, sort=False).sum()
    draw = np.random.default_rng(seed).integers(len(of_family), size=(draws, len(of_family)))
    sums = pd.DataFrame(of_family.to_numpy()[draw].sum(1), columns=of_family.columns)
    return sums.assign(nearest=sums[list(NODE)].idxmin(axis=1))


# ------------------------------------------------------------------------------------------------- the verdict

def several_seeds(data: Comparison) -> Comparison | None:
    """The rows with two or more of our runs of every node label; ``None`` if there are none."""
    rows = data.runs.index[(data.runs[list(NODE)] >= 2).all(axis=1)]
    return data.only(rows) if len(rows) else None


def doubts(data: Comparison, column: str, trials: dict[str, Comparison]) -> list[str]:
    """What speaks against taking our runs as evidence on a column, in words; nothing if they are evidence.

    They are if (a) the same label is nearest in every trial; (b) with all rows it leads by more than ``LEAD`` nats, and the
    next label's residual is more than ``RATIO`` times as large; (c) more than half of the families vote for it; (d) the rows
    of one scale, alone, name it; (e) two families have several seeds.

    Args:
        data: all rows.
        column: the printed name.
        trials: name → other choices of rows or runs.
    """
    label, lead, ratio = nearest(labels_of(data, column))
    found = {name: nearest(labels_of(trial, column)) for name, trial in trials.items()}
    other = [f"{name} ({WORDS[near]}, by {by:.1f} nats)" for name, (near, by, _) in found.items() if near != label]
    behind, repeated = (vote_of_families(data, column) == label), several_seeds(data)
    alone = [nearest(labels_of(data.block(scale), column))[0] for scale in data.scale.unique()]
    families = 0 if repeated is None else repeated.family.nunique()
    conditions = {f"the nearest label changes in {', '.join(other)}": other,
                  f"the lead is {LEAD:g} nats or less": lead <= LEAD,
                  f"the residual of the next label is at most {RATIO:g} times as large": ratio <= RATIO,
                  f"only {behind.sum()} of {len(behind)} families stand behind it": behind.mean() <= 0.5,
                  "the rows of neither scale say so alone": label not in alone,
                  f"{('no family has', 'only one family has')[min(families, 1)]} several seeds of every label": families < 2}
    return [words for words, holds in conditions.items() if holds]
