"""The witnesses of chapter 12: residuals by hand, the likelihood by two roads, families, the rule of the verdict."""
import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm, t

from gnnssm_lite import datasets
from gnnssm_lite.datasets.properties import NODE_LABELS
from gnnssm_lite.experiments import audit, published, reading
from gnnssm_lite.experiments.graph_properties import TABLE_4, TARGETS

RECORDED = audit.comparison(reading.recorded_runs())
SHIFTED = {column: reading.READINGS["shifted"][column] for column in audit.IN_DOUBT}


def small(printed, ours, scale="raw", seeds=1, std=0.0):
    """Rows GCN, GAT, … with one printed number for both columns, and our scores (SSSP, eccentricity, LX)."""
    rows = list(TABLE_4)[:len(printed)]
    numbers = pd.DataFrame({column: printed for column in published.COLUMNS}, index=rows, dtype=float)
    scores = pd.DataFrame(ours, index=rows, columns=list(NODE_LABELS), dtype=float).assign(diameter=0.0)[list(TARGETS)]
    zero = scores * 0
    return audit.Comparison(numbers, numbers * 0 + std, scores, zero, zero + seeds, pd.Series({t: 2.0 for t in TARGETS}),
                            pd.Series(scale, rows))


def test_residual_and_noise_by_hand():
    data = small([1.0, -1.0], [[0.5, 0, 0], [0.5, 0, 0]], scale=["raw", "normalised"], seeds=2, std=0.3)
    e, s = data.residuals({"sssp": "sssp"})
    assert e.sssp.tolist() == pytest.approx([0.5, -1.0 - (0.5 - 2.0)])
    assert s.sssp.tolist() == pytest.approx([math.sqrt(4 / 3 * 0.09 * (1 / 4 + 1 / 2))] * 2)


def test_our_own_spread_takes_the_place_of_a_smaller_printed_one():
    data = small([1.0], [[0.5, 0, 0]], seeds=4, std=0.03)
    wide = dataclasses.replace(data, ours_std=data.ours_std + 0.2)
    assert wide.residuals({"sssp": "sssp"})[1].sssp.item() == pytest.approx(0.2 * math.sqrt(1 / 2))


@pytest.mark.parametrize("meaning", audit.MEANINGS, ids=lambda m: "-".join(m.values()))
def test_the_likelihood_is_the_density_of_independent_normal_residuals(meaning):
    e, s = (part.to_numpy() for part in RECORDED.residuals(meaning))
    for k in (0, 400, 999):
        assert audit.profile(RECORDED, meaning)[k] == pytest.approx(norm.logpdf(e, scale=np.hypot(audit.TAU[k], s)).sum())


def test_the_heavy_tailed_density_is_students_t_with_three_degrees_of_freedom():
    e, s = np.array([0.4, -2.0]), np.array([0.1, 0.3])
    assert audit.heavy_tailed(e, s)[500] == pytest.approx(t(3, scale=np.hypot(audit.TAU[500], s)).logpdf(e).sum())
    density = lambda e: math.exp(audit.heavy_tailed(np.array([e]), np.array([0.1]))[500])  # noqa: E731
    assert quad(density, -np.inf, np.inf)[0] == pytest.approx(1, abs=1e-6)


def test_the_nearest_label_leads_by_likelihood_and_the_residuals_are_root_mean_squares():
    data = small([1.0, 2.0, 3.0], [[1.1, 0, 1.5], [2.1, 0, 2.5], [3.1, 0, 3.5]])
    labels = audit.labels_of(data, "sssp")
    assert labels.rms.to_dict() == pytest.approx({"sssp": 0.1, "eccentricity": math.sqrt(14 / 3), "laplacian": 0.5})
    label, lead, ratio = audit.nearest(labels)
    assert label == "sssp" and ratio == pytest.approx(5) and lead == pytest.approx(3 * math.log(5), abs=1e-3)  # Eq. (12.C), s = 0


def test_an_offset_of_their_own_takes_the_mean_residual_from_the_rows_of_a_scale():
    data = small([1.0, 3.0, 11.0, 13.0], [[0, 0, 0]] * 4, scale=["raw"] * 2 + ["normalised"] * 2)
    assert audit.labels_of(data, "sssp", centred=True).rms.tolist() == pytest.approx([1, 1, 1])  # all in one: more than 5


def test_no_reading_is_the_mean_of_the_rows_of_other_families_on_the_scale():
    data = RECORDED.only(["GCN", "GAT", "GIN", "DRew-GCN", "DRew-GCN + delay", "GCN-SSM", "+ k-hop"])
    printed = pd.Series([1.0, 2.0, 6.0, -1.0, -3.0, -4.0, -8.0], data.rows)
    data = dataclasses.replace(data, printed=data.printed.assign(sssp=printed))
    guess = [4.0, 3.5, 1.5, -6.0, -6.0, -2.0, -2.0]
    assert audit.squares(data, "sssp")["no reading"].tolist() == pytest.approx(((printed - guess) ** 2).tolist())
    with pytest.raises(ValueError, match="data must have two families on each scale; it has {'normalised': 1, 'raw': 3}"):
        audit.squares(data.only(data.rows[:5]), "sssp")
    assert len(audit.vote_of_families(data.only(data.rows[:5]), "sssp")) == 4  # a vote needs no guess


def test_families_vote_with_the_mean_over_their_rows_and_are_drawn_whole():
    votes, squares = audit.vote_of_families(RECORDED, "eccentricity"), audit.squares(RECORDED, "eccentricity")
    assert set(votes.index) == set(RECORDED.family) and len(votes) == 14
    assert votes["DRew"] == squares.loc[["DRew-GCN", "DRew-GCN + delay"], list(NODE_LABELS)].mean().idxmin()
    drawn = audit.families_drawn_again(RECORDED, "eccentricity", draws=20000)
    of_family = squares.groupby(RECORDED.family).sum().sssp
    assert drawn.sssp.mean() == pytest.approx(of_family.sum(), rel=0.02)
    assert drawn.sssp.var() == pytest.approx(14 * of_family.var(ddof=0), rel=0.05)  # single rows: a tenth less
    assert (drawn.nearest == drawn[list(NODE_LABELS)].idxmin(axis=1)).all()
    assert drawn.equals(audit.families_drawn_again(RECORDED, "eccentricity", draws=20000))


def test_rows_and_families_can_be_left_out_and_scores_replaced():
    kept = RECORDED.without("DRew", "GPS")
    assert len(kept.rows) == 14 and not {"DRew", "GPS"} & set(kept.family)
    assert set(RECORDED.block("raw").rows) | set(RECORDED.block("normalised").rows) == set(RECORDED.rows)
    other = RECORDED.replaced(pd.DataFrame({"row": "GCN", "target": "sssp", "score": [-7.0, -9.0]}))
    changed = (other.ours != RECORDED.ours).stack()
    assert changed[changed].index.tolist() == [("GCN", "sssp")] and other.ours.sssp["GCN"] == -8.0
    assert other.runs.sssp["GCN"] == 2 and other.ours_std.sssp["GCN"] == pytest.approx(math.sqrt(2))
    with pytest.raises(ValueError, match="families must be one of .*; it was 'ResNet'"):
        RECORDED.without("ResNet")
    for function in (audit.labels_of, audit.squares, audit.vote_of_families, audit.families_drawn_again):
        with pytest.raises(ValueError, match="column must be one of 'sssp', 'eccentricity'; it was 'diameter'"):
            function(RECORDED, "diameter")
    with pytest.raises(ValueError, match="scale must be one of 'raw', 'normalised'; it was 'normalized'"):
        RECORDED.block("normalized")
    with pytest.raises(ValueError, match="must have at least one row"):
        audit.labels_of(RECORDED.only([]), "sssp")
    with pytest.raises(ValueError, match="meaning's label must be one of .*; it was 'LX'"):
        RECORDED.residuals({"sssp": "LX"})
    with pytest.raises(ValueError, match="runs' row must be one of .*; it was 'GCNN'"):
        RECORDED.replaced(pd.DataFrame({"row": ["GCNN"], "target": ["sssp"], "score": [0.0]}))
    with pytest.raises(ValueError, match=r"runs must have the columns \['row', 'score'\]"):
        RECORDED.replaced(pd.DataFrame({"target": ["sssp"]}))


@pytest.mark.parametrize("scale", ["normalized", pd.Series({"GCN": "raw"})], ids=["misspelt", "one row only"])
def test_a_scale_that_is_none_is_named(scale):
    with pytest.raises(ValueError, match="scale must be 'raw' or 'normalised' for every row; it was {'"):
        RECORDED.on(scale)


@pytest.mark.parametrize("field", ["printed", "ours"])
def test_a_missing_number_is_named_and_no_likelihood_is_made_of_it(field):
    numbers = getattr(RECORDED, field).copy()
    numbers.loc["GAT", "sssp"] = math.nan
    with pytest.raises(ValueError, match="every row must have a printed number and runs of .*; these have not: GAT"):
        audit.labels_of(dataclasses.replace(RECORDED, **{field: numbers}), "sssp")


def test_rows_without_runs_of_every_node_label_are_left_out():
    runs = reading.recorded_runs()
    data = audit.comparison(runs[~((runs.model == "GPS") & (runs.target == "laplacian"))])
    assert set(RECORDED.rows) - set(data.rows) == {"GPS"}


@pytest.mark.parametrize(("change", "words"), [
    (lambda runs: runs.drop(columns="val_mse"), r"runs must have the columns \['val_mse'\]"),
    (lambda runs: pd.concat([runs, runs]), "one run of each option, target and seed; two are of"),
    (lambda runs: runs.assign(maximum=range(1, len(runs) + 1)), "runs must come from one data set; the largest label of .* differs")])
def test_runs_that_cannot_be_compared_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        audit.comparison(change(reading.recorded_runs()))


def test_runs_without_a_label_leave_no_rows():
    runs = reading.recorded_runs()
    assert audit.comparison(runs.assign(maximum=runs.maximum * (1 + 1e-12 * (runs.seed == 1)))).rows == RECORDED.rows  # rounding
    assert audit.comparison(runs[runs.target != "laplacian"]).rows == []
    with pytest.raises(ValueError, match="options must be one of .*; it was 'ResNet'"):
        audit.comparison(runs, {"ResNet": ("GCN",)})
    with pytest.raises(ValueError, match="scale must be 'raw' or 'normalised' for every row"):
        audit.comparison(runs, scale={"GCN": "raw"})


CLEAR = small([1.0, 2.0, 3.0, 4.0, 2.5, 1.5], [[p + 0.1, 0, p + 2] for p in (1.0, 2.0, 3.0, 4.0, 2.5, 1.5)], seeds=4)


def test_clear_runs_are_evidence_and_each_condition_can_fail():
    everything = {"all rows": CLEAR}
    assert audit.doubts(CLEAR, "sssp", everything) == []
    other = dataclasses.replace(CLEAR, ours=CLEAR.ours.rename(columns={"sssp": "laplacian", "laplacian": "sssp"}))
    assert audit.doubts(CLEAR, "sssp", everything | {"swapped": other})[0].startswith("the nearest label changes in swapped (LX, by ")
    once = dataclasses.replace(CLEAR, runs=CLEAR.runs * 0 + 1)
    assert audit.doubts(once, "sssp", {"all rows": once}) == ["families with several seeds of every label: 0, not two"]
    seeds = CLEAR.runs.copy()
    seeds.iloc[1:] = 1
    one = dataclasses.replace(CLEAR, runs=seeds)
    assert audit.doubts(one, "sssp", {}) == ["families with several seeds of every label: 1, not two"]
    seeds.iloc[1] = 2
    assert audit.doubts(dataclasses.replace(CLEAR, runs=seeds), "sssp", {}) == []
    alike = dataclasses.replace(CLEAR, ours=CLEAR.ours.assign(laplacian=CLEAR.ours.sssp + 0.01))
    assert audit.doubts(alike, "sssp", {"all rows": alike}) == [
        "the lead is 2 nats or less", "the residual of the next label is at most 1.25 times as large"]
    few = dataclasses.replace(CLEAR, ours=CLEAR.ours.assign(sssp=[4, 5, 6, 4.1, 2.6, 1.6], laplacian=[2, 3, 4, 14, 12.5, 11.5]))
    assert "only 3 of 6 families stand behind it" in audit.doubts(few, "sssp", {"all rows": few})
    split = small([0.0] * 4, [[1, 0.9, 5]] * 2 + [[1, 5, 0.9]] * 2, scale=["raw"] * 2 + ["normalised"] * 2, seeds=4)
    split = dataclasses.replace(split, shift=split.shift * 0)  # each scale has a favourite of its own, the compromise wins
    assert "the rows of neither scale say so alone" in audit.doubts(split, "sssp", {"all rows": split})
    half = dataclasses.replace(split, ours=split.ours.assign(sssp=[0.1, 0.1, 1, 1], eccentricity=5.0))
    assert audit.nearest(audit.labels_of(half.block("normalised"), "sssp"))[0] == "laplacian"
    assert not any("neither scale" in words for words in audit.doubts(half, "sssp", {}))


def test_the_lead_must_be_more_than_two_nats():
    close = dataclasses.replace(CLEAR, ours=CLEAR.ours.assign(laplacian=CLEAR.ours.sssp + [0.06, 0.04] * 3))
    assert 2 < audit.nearest(audit.labels_of(close, "sssp"))[1] < 5 and audit.doubts(close, "sssp", {}) == []


def test_nearest_is_by_likelihood_and_names_the_residual_of_the_next():
    labels = pd.DataFrame({"rms": [2.0, 1.0, 3.0], "log-likelihood": [-1.0, -3.0, -9.0]}, ["sssp", "eccentricity", "laplacian"])
    assert audit.nearest(labels) == ("sssp", 2.0, 0.5)


def test_several_seeds_are_two_of_every_label():
    data = small([1.0, 2.0, 3.0], [[0, 0, 0]] * 3)
    data = dataclasses.replace(data, runs=data.runs.assign(sssp=2, eccentricity=2, laplacian=[1, 2, 3]))
    assert audit.several_seeds(data).rows == data.rows[1:] and audit.several_seeds(data.only(data.rows[:1])).rows == []


def test_residuals_take_shift_spread_and_seeds_of_the_label_and_not_of_the_column():
    data = small([0.0], [[0.5, 0, 0.25]], scale="normalised", seeds=2)
    data = dataclasses.replace(data, shift=pd.Series({"sssp": 3.0, "eccentricity": 5.0, "laplacian": 2.0, "diameter": 7.0}),
                               ours_std=data.ours_std.assign(laplacian=0.4), runs=data.runs.assign(laplacian=4))
    e, s = data.residuals({"sssp": "laplacian"})
    assert e.sssp.item() == pytest.approx(1.75) and s.sssp.item() == pytest.approx(0.4 * math.sqrt(1 / 2))


def test_the_shift_is_twice_the_logarithm_of_the_largest_label():
    assert RECORDED.shift.to_dict() == pytest.approx({t: 2 * math.log10(m) for t, m in datasets.label_maximum().items()})


def test_scale_and_options_of_a_comparison_are_those_that_were_asked_for():
    other = audit.comparison(reading.recorded_runs(), TABLE_4, {row: "raw" for row in TABLE_4})
    changed = (other.ours != RECORDED.ours).any(axis=1)
    assert set(other.scale) == {"raw"} and list(changed.index[changed]) == ["+ k-hop"]  # sums, which validation prefers


def test_a_family_votes_with_the_mean_over_its_rows():
    data = RECORDED.only(["GCN-SSM", "+ eig(Λ) ≈ 1", "+ k-hop"])
    ours = pd.DataFrame({"sssp": data.printed.sssp + data.shift.sssp + [0.0, 0.0, 1.0],
                         "laplacian": data.printed.sssp + data.shift.laplacian + 0.8}).assign(eccentricity=9.0, diameter=0.0)
    assert audit.vote_of_families(dataclasses.replace(data, ours=ours), "sssp").to_dict() == {"GCN-SSM": "sssp"}


def test_the_recorded_runs_put_the_columns_nearest_to_the_shifted_labels():
    """The same by another road: test_reading computes the distances anew."""
    for column in audit.IN_DOUBT:
        labels = audit.labels_of(RECORDED, column)
        assert audit.nearest(labels)[0] == labels.rms.idxmin() == SHIFTED[column]
