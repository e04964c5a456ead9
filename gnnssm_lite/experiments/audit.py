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
from ..datasets.properties import NODE_LABELS
from . import published
from .graph_properties import TABLE_4, TARGETS
from .reading import AUDITED, FAMILY, WORDS, runs_of_rows, scales

#: The columns in doubt, by their printed names. Each may hold any of the three node labels.
IN_DOUBT = ("sssp", "eccentricity")
#: All pairs of different node labels that the two columns may hold.
MEANINGS = tuple({"sssp": a, "eccentricity": b} for a, b in itertools.permutations(NODE_LABELS, 2))
SCALES = ("raw", "normalised")
PRINTED_RUNS = 4  # of which the paper prints mean and standard deviation, that of a population
#: Error scales τ that a reading may choose from. Another draw of the data alone moves a score by about 0.02.
TAU = np.geomspace(0.02, 10, 1000)
#: Our runs are evidence only above this lead (nats) and this ratio of the residuals of the next label and the nearest.
LEAD, RATIO = 2.0, 1.25
# A column whose ratio is nearer to RATIO than this is undecided, on whichever side it lies: a few runs turn it round.
AT_LIMIT = 0.02

Density = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Comparison:
    r"""Printed scores beside ours, one row of table 4 each.

    Attributes:
        printed: row × printed column, :math:`\log_{10}` of the error on the scale of the row.
        printed_std: the same shape, the standard deviation of the paper's four runs; NaN where none is printed.
        ours: row × label, our mean on raw labels.
        ours_std: the same shape, standard deviation over our seeds, 0 for one.
        runs: the same shape, number of our seeds.
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
        """The family of each row. Rows of one family are variants of one model."""
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
        """The rows that are read on one scale.

        Raises:
            ValueError: neither ``"raw"`` nor ``"normalised"``.
        """
        check_choice("scale", scale, SCALES)
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

        Raises:
            ValueError: runs without a ``row``, ``target`` or ``score``, or of no row of table 4.
        """
        absent = [column for column in ("row", "target", "score") if column not in runs]
        if absent:
            raise ValueError(f"runs must have the columns {absent}; it has {list(runs)}")
        for row in runs.row.unique():
            check_choice("runs' row", row, tuple(TABLE_4))
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
            ValueError: another column or label, no rows, or a row without a printed number or without runs of the label.
        """
        for column, label in meaning.items():
            check_choice("meaning's column", column, published.COLUMNS)
            check_choice("meaning's label", label, TARGETS)
        if not self.rows:
            raise ValueError("a comparison must have at least one row; it has none")
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

    Raises:
        ValueError: as :func:`~gnnssm_lite.experiments.reading.runs_of_rows`; runs of several data sets; a row without scale.
    """
    rows, kept, printed = list(TABLE_4), runs_of_rows(runs, options), published.table(4)
    mean, std = (printed.pivot(index="label", columns="column", values=value).loc[rows] for value in ("mean", "std"))
    ours, ours_std, count = (_by_row(kept, how) for how in ("mean", "std", "count"))
    largest = kept.groupby("target").maximum
    ratio = largest.max() / largest.min() - 1
    if (ratio > 1e-9).any():  # a record rounds to twelve digits
        raise ValueError(f"runs must come from one data set; the largest label of {ratio.idxmax()} differs")
    every = Comparison(mean, std, ours, ours_std.fillna(0.0), count, 2 * np.log10(largest.first().reindex(TARGETS)),
                       pd.Series(scales() if scale is None else scale).reindex(rows))
    return every.only(ours.index[ours[list(NODE_LABELS)].notna().all(axis=1)])


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
        one row for each node label, with ``rms`` (root mean square residual), ``log-likelihood`` (the best over τ), ``τ``.

    Raises:
        ValueError: another column.
    """
    check_choice("column", column, IN_DOUBT)
    found = {}
    for label in NODE_LABELS:
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

def vote_of_families(data: Comparison, column: str) -> pd.Series:
    """The label that is nearest to the rows of each family alone, by the root mean square residual.

    Raises:
        ValueError: another column than ``IN_DOUBT`` has.
    """
    return _squared_residuals(data, column).groupby(data.family, sort=False).mean().idxmin(axis=1)


def squares(data: Comparison, column: str) -> pd.DataFrame:
    """Squared residuals of one printed column, row × label, and of ``"no reading"``.

    No reading: guess a printed number as the mean of the rows on its scale that are of other families.

    Raises:
        ValueError: another column than ``IN_DOUBT`` has, or a scale with one family only, whose numbers nothing guesses.
    """
    labels, families = _squared_residuals(data, column), data.family.groupby(data.scale).nunique()
    if (families < 2).any():
        raise ValueError(f"data must have two families on each scale; it has {families.to_dict()}")
    number, own = data.printed[column], [data.scale, data.family]
    total, rows = (number.groupby(data.scale).transform(how) - number.groupby(own).transform(how) for how in ("sum", "size"))
    return labels.assign(**{"no reading": (number - total / rows) ** 2})


def _squared_residuals(data: Comparison, column: str) -> pd.DataFrame:
    check_choice("column", column, IN_DOUBT)
    return pd.DataFrame({label: data.residuals({column: label})[0][column] ** 2 for label in NODE_LABELS})


def families_drawn_again(data: Comparison, column: str, draws: int = 4000, seed: int = 0) -> pd.DataFrame:
    """A bootstrap: as many families, drawn with replacement; sums of their squared residuals.

    Returns:
        one row for each draw, with the columns of :func:`squares`, and ``nearest``, the label with the smallest sum.

    Raises:
        ValueError: as :func:`squares`.
    """
    of_family = squares(data, column).groupby(data.family, sort=False).sum()
    draw = np.random.default_rng(seed).integers(len(of_family), size=(draws, len(of_family)))
    sums = pd.DataFrame(of_family.to_numpy()[draw].sum(1), columns=of_family.columns)
    return sums.assign(nearest=sums[list(NODE_LABELS)].idxmin(axis=1))


# ------------------------------------------------------------------------------------------------- the verdict

def several_seeds(data: Comparison) -> Comparison:
    """The rows with two or more of our runs of every node label; there may be none."""
    return data.only(data.runs.index[(data.runs[list(NODE_LABELS)] >= 2).all(axis=1)])


def doubts(data: Comparison, column: str, trials: dict[str, Comparison]) -> list[str]:
    """What speaks against taking our runs as evidence on a column, in words; nothing if they are evidence.

    They are if (a) the same label is nearest in every trial; (b) with all rows it leads by more than ``LEAD`` nats, and the
    next label's residual is more than ``RATIO`` times as large; (c) more than half of the families vote for it; (d) the rows
    of one scale, alone, name it; (e) two families have several seeds.

    Args:
        data: all rows.
        column: the printed name.
        trials: name → other choices of rows or runs.

    Raises:
        ValueError: another column than ``IN_DOUBT`` has, or a trial without rows.
    """
    label, lead, ratio = nearest(labels_of(data, column))
    found = {name: nearest(labels_of(trial, column)) for name, trial in trials.items()}
    other = [f"{name} ({WORDS[near]}, by {by:.1f} nats)" for name, (near, by, _) in found.items() if near != label]
    behind, families = (vote_of_families(data, column) == label), several_seeds(data).family.nunique()
    alone = [nearest(labels_of(data.block(scale), column))[0] for scale in data.scale.unique()]
    conditions = [(other, f"the nearest label changes in {', '.join(other)}"),
                  (lead <= LEAD, f"the lead is {LEAD:g} nats or less"),
                  (ratio <= RATIO, f"the residual of the next label is at most {RATIO:g} times as large"),
                  (behind.mean() <= 0.5, f"only {behind.sum()} of {len(behind)} families stand behind it"),
                  (label not in alone, "the rows of neither scale say so alone"),
                  (families < 2, f"families with several seeds of every label: {families}, not two")]
    return [words for failed, words in conditions if failed]
