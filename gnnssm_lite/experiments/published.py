"""The published numbers of the graph-property benchmark, as data: what chapters 10 and 12 compare our runs with.

Columns carry the names under which they were published. Which quantity a name stands for is the question of chapter 12.
"""
from __future__ import annotations

import math

import pandas as pd

from ..checks import check_choice

COLUMNS = ("diameter", "sssp", "eccentricity")
NOT_PRINTED = math.nan

# (row of the paper, label of experiments.graph_properties.TABLE_4, then mean and standard deviation of each column)
TABLES: dict[int, tuple[tuple, ...]] = {
    2: (
        ("GCN", "GCN", (0.742, 0.047), (0.950, NOT_PRINTED), (0.847, 0.003)),
        ("GCN + SSM", "GCN-SSM", (-2.431, 0.033), (-2.821, 0.565), (-2.245, 0.003)),
        ("GCN + SSM + eig(Λ) ≈ 1", "+ eig(Λ) ≈ 1", (-2.444, 0.098), (-3.593, 0.103), (-2.258, 0.009)),
        ("GCN + SSM + eig(Λ) ≈ 1 + k-hop", "+ k-hop", (-3.075, 0.055), (-3.604, 0.029), (-4.265, 0.178)),
        ("DRew-GCN", "DRew-GCN", (-2.369, 0.105), (-1.591, 0.003), (-2.100, 0.026)),
        ("DRew-GCN + delay", "DRew-GCN + delay", (-2.402, 0.110), (-1.602, 0.008), (-2.029, 0.024)),
    ),
    4: (
        ("GCN", "GCN", (0.7424, 0.0466), (0.9499, 0.0001), (0.8468, 0.0028)),
        ("GAT", "GAT", (0.8221, 0.0752), (0.6951, 0.1499), (0.7909, 0.0222)),
        ("GraphSAGE", "GraphSAGE", (0.8645, 0.0401), (0.2863, 0.1843), (0.7863, 0.0207)),
        ("GIN", "GIN", (0.6131, 0.0990), (-0.5408, 0.4193), (0.9504, 0.0007)),
        ("GCNII", "GCNII", (0.5287, 0.0570), (-1.1329, 0.0135), (0.7640, 0.0355)),
        ("DGC", "DGC", (0.6028, 0.0050), (-0.1483, 0.0231), (0.8261, 0.0032)),
        ("GRAND", "GRAND", (0.6715, 0.0490), (-0.0942, 0.3897), (0.6602, 0.1393)),
        ("GraphCON", "GraphCON", (0.0964, 0.0620), (-1.3836, 0.0092), (0.6833, 0.0074)),
        ("A-DGN", "A-DGN", (-0.5188, 0.1812), (-3.2417, 0.0751), (0.4296, 0.1003)),
        ("SWAN", "SWAN", (-0.5981, 0.1145), (-3.5425, 0.0830), (-0.0739, 0.2190)),
        ("PH-DGN", "PH-DGN", (-0.5473, 0.1074), (-4.2993, 0.0721), (-0.9348, 0.2097)),
        ("GPS", "GPS", (-0.5121, 0.0426), (-3.5990, 0.1949), (0.6077, 0.0282)),
        ("DRew-GCN", "DRew-GCN", (-2.3692, 0.1054), (-1.5905, 0.0034), (-2.1004, 0.0256)),
        ("DRew-GCN + delay", "DRew-GCN + delay", (-2.4018, 0.1097), (-1.6023, 0.0078), (-2.0291, 0.0240)),
        ("GCN-SSM", "GCN-SSM", (-2.4312, 0.0329), (-2.8206, 0.5654), (-2.2446, 0.0027)),
        ("GCN-SSM + eig(Λ) ≈ 1", "+ eig(Λ) ≈ 1", (-2.4442, 0.0984), (-3.5928, 0.1026), (-2.2583, 0.0085)),
        ("GCN-SSM + eig(Λ) ≈ 1 + k-hop", "+ k-hop", (-3.0748, 0.0545), (-3.6044, 0.0291), (-4.2652, 0.1776)),
    ),
}

# Single results of others: (row, mean of each column, source). Labels are not normalised in them, as their code says.
OTHERS = (
    ("gLSTM", (-0.715, -2.836, -4.036), "Blayney et al. (2025)"),
    ("gLSTM without k-hop", (0.042, -3.377, 0.673), "Blayney et al. (2025)"),
)


# How many hops a row of table 4 sees at most: one hop a layer, times the deepest network of its search. 20 layers in the
# first public code (github.com/gravins/Anti-SymmetricDGN, graph_prop_pred/conf.py), 10 in the paper's appendix C. Rows
# whose search or hops a layer we do not know are left out.
REACH = {"GCN": 20, "GAT": 20, "GraphSAGE": 20, "GIN": 20, "GCNII": 20, "DGC": 20, "A-DGN": 20,
         "GCN-SSM": 10, "+ eig(Λ) ≈ 1": 10}
# The best run under the name "sssp" that the authors of SONAR, a later model, publish on the same file and columns, labels
# divided by their maximum: one block of 5 iterations, width 30, four seeds. In its public code an iteration applies once a
# Laplacian whose weights are computed from the features at both ends of an edge, without a normalisation in this run.
SONAR = {"row": "SONAR, 5 iterations", "reach": 5, "mean": -6.9636, "std": 0.1674, "scale": "normalised",
         "source": "https://github.com/gravins/SWAN/tree/main/graph_property_prediction/SONAR_NeurIPS25"}
# The best of the same public runs with 5 iterations under the name "ecc". Its Laplacian is divided by row sums of weights
# that are computed from the features at both ends of an edge, so an iteration looks two hops far: 10 hops at most.
SONAR_ECCENTRICITY = {"row": "SONAR, 5 iterations", "reach": 10, "mean": -2.4339, "std": 0.0224, "scale": "normalised",
                      "source": SONAR["source"]}
# The row without k-hop of the follow-up. Its public settings have ten layers of one hop; how many this row had is not said.
GLSTM_REACH = 20
# One run of the benchmark's public generator with its default seed, outside this repository: the largest training label LX,
# and the score of a constant on it (raw, over graphs).
PUBLIC_GENERATOR = {"largest_laplacian": 17.76, "constant_laplacian": 0.917}


def sssp_scores_with_reach() -> pd.DataFrame:
    """The published scores under the name of shortest paths whose reach is known.

    Returns:
        a row for each score, with ``row``, ``label`` (of ``TABLE_4``; none for a model that it lacks), ``reach`` (hops, at
        most), ``mean``, ``std``, ``scale`` (where the source says it) and ``source``.
    """
    printed = table(4).query("column == 'sssp' and label in @REACH")
    rows = [{"row": cell.row, "label": cell.label, "reach": REACH[cell.label], "mean": cell.mean, "std": cell.std,
             "scale": "", "source": "table 4"} for cell in printed.itertuples()]
    name, means, source = next(result for result in OTHERS if result[0] == "gLSTM without k-hop")
    follow_up = {"row": name, "label": "", "reach": GLSTM_REACH, "mean": means[COLUMNS.index("sssp")], "std": NOT_PRINTED,
                 "scale": "raw", "source": source}
    return pd.DataFrame([*rows, follow_up, {"label": "", **SONAR}])


def table(number: int) -> pd.DataFrame:
    r"""The paper's table 2 or 4: :math:`\log_{10}` of the test mean squared error, lower is better, as printed.

    Args:
        number: 2 (the ablation) or 4 (all models). The first prints the same runs with one digit fewer.

    Returns:
        a row for each cell, in the order of the paper, with ``row`` (the model, with what a line that begins with "+"
        adds to), ``column`` (``"diameter"``, ``"sssp"`` or ``"eccentricity"``, the paper's names), ``mean``, ``std``
        (over the paper's four runs; NaN where none is printed) and ``label`` (the key of
        ``experiments.graph_properties.TABLE_4`` whose models stand for the row).

    Raises:
        ValueError: another number.

    Source:
        Arroyo et al. (2025), tables 2 and 4.
    """
    check_choice("number", number, TABLES)
    cells = [(row, column, *cell, label) for row, label, *values in TABLES[number]
             for column, cell in zip(COLUMNS, values, strict=True)]
    return pd.DataFrame(cells, columns=["row", "column", "mean", "std", "label"])


def others() -> pd.DataFrame:
    r"""Results on the same benchmark from elsewhere, on labels that are not normalised: :math:`\log_{10}` of the error.

    Returns:
        a row for each cell, with ``row``, ``column`` (the names that the source gives), ``mean`` and ``source``.

    Source:
        Blayney et al. (2025), the follow-up by two of the paper's authors.
    """
    cells = [(row, column, mean, source) for row, means, source in OTHERS
             for column, mean in zip(COLUMNS, means, strict=True)]
    return pd.DataFrame(cells, columns=["row", "column", "mean", "source"])
