"""The printed cells beside our runs: options by validation only, scales by constants, verdicts by the stated rule."""
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from gnnssm_lite import datasets, experiments
from gnnssm_lite.experiments import audit, graph_properties, published, reading
from gnnssm_lite.experiments.graph_properties import ONLY_IN_TABLE_4, TABLE_4, TARGETS, kept_options

MAXIMUM = {"sssp": 33.0, "eccentricity": 33.0, "diameter": 33.0, "laplacian": 19.0}


def run(model, target, raw, seed=0, val=1.0, **changes):
    """A run as it is recorded, with the same error on graphs of every size."""
    return {"model": model, "target": target, "seed": seed, "layers": 10, "width": 20, "normalised": True, "val_mse": val,
            "test_mse": 10.0**raw, "maximum": MAXIMUM[target]} | {f"test_mse_{n}": 10.0**raw for n in range(25, 30)} | changes


def cell(frame, row, column, number=4):
    found = frame[(frame.table == number) & (frame.row == row) & (frame.column == column)]
    assert len(found) == 1
    return found.iloc[0]


def test_validation_chooses_the_option_and_the_test_error_has_no_say():
    runs = pd.DataFrame([run("GCNII", "sssp", 0.5, val=2.0), run("GCNII, α = 0.5", "sssp", 0.9, val=1.0),
                         run("GCNII", "laplacian", 0.3, val=1.0), run("GCNII, α = 0.5", "laplacian", 0.1, val=2.0)])
    kept = reading.runs_of_rows(runs).set_index("target")
    assert kept.score.to_dict() == pytest.approx({"sssp": 0.9, "laplacian": 0.3})
    assert kept.row.eq("GCNII").all() and kept.model["sssp"] == "GCNII, α = 0.5"


def test_a_second_seed_of_the_kept_option_does_not_unseat_it():
    runs = pd.DataFrame([run("GCNII", "sssp", 0.5, val=1.0), run("GCNII", "sssp", 0.7, seed=1, val=9.0),
                         run("GCNII, α = 0.5", "sssp", 0.1, val=2.0)])
    assert reading.runs_of_rows(runs).score.tolist() == pytest.approx([0.5, 0.7])


def test_second_seeds_are_those_of_the_options_that_validation_kept():
    first = experiments.results("table_4").query("seed == 0").set_index(["model", "target"]).val_mse
    kept = kept_options(ONLY_IN_TABLE_4)
    assert len(kept) == 4 * len(ONLY_IN_TABLE_4) == 44
    for (row, target), model in kept.items():
        assert first[model, target] == min(first[option, target] for option in TABLE_4[row]), (row, target)
    with pytest.raises(ValueError, match="rows must be one of .*; it was 'ResNet'"):
        kept_options(["ResNet"])
    with pytest.raises(ValueError, match="targets must be one of .*; it was 'ssp'"):
        kept_options(["DGC"], ["ssp"])
    with pytest.raises(TypeError, match="rows must be a list of names; it was 'DGC'"):
        kept_options("DGC")


def test_second_seeds_are_configurations_of_the_main_experiment(monkeypatch):
    asked = []
    monkeypatch.setattr(graph_properties, "sweep", lambda name, function, runs, **how: asked.append((name, runs)) or pd.DataFrame())
    graph_properties.second_seeds(["DGC"], ["sssp", "diameter"])
    graph_properties.graph_properties(["DGC, T = 1", "DGC, T = 5"], ["sssp", "diameter"], [1])
    (name, second), (main, every) = asked
    assert name == main and len(second) == 2 and all(config in every for config in second)


def test_draws_apart_are_no_runs_of_the_tables():
    both = reading.recorded_runs(["independent_draws", "graph_properties"])
    assert both.independent.eq(True).sum() == len(reading.recorded_runs("independent_draws"))
    with pytest.raises(ValueError, match="one run of each option, target and seed; two are of"):
        reading.runs_of_rows(both)


def test_plain_sums_stand_for_no_printed_row_unless_one_asks():
    sums = run("kGCN-SSM, eig(Λ) = 1, identity, sum", "sssp", -2.0, val=0.1)
    frame = pd.DataFrame([sums, run("kGCN-SSM, eig(Λ) = 1, identity", "sssp", -1.5, val=1.0)])
    assert reading.runs_of_rows(frame).score.tolist() == pytest.approx([-1.5])
    assert reading.runs_of_rows(frame, TABLE_4).score.tolist() == pytest.approx([-2.0])


def test_runs_of_another_setting_and_of_no_row_are_left_out():
    runs = pd.DataFrame([run("GCN", "sssp", 0.8), run("GCN", "sssp", 0.1, normalised=False), run("GCN", "sssp", 0.1, layers=2),
                         run("GCN + residual", "sssp", 0.1)])
    assert len(reading.runs_of_rows(runs)) == 1


def test_scores_are_averaged_as_the_public_evaluation_does():
    frame = pd.DataFrame([run("GCN", "sssp", 0.0) | {"test_mse_29": 4.0}])
    assert reading.runs_of_rows(frame).score.item() == pytest.approx(math.log10((1 + 1 + 4) / 3))  # by graph: 8/5


def test_the_first_twelve_rows_are_read_as_raw_and_the_rest_as_normalised():
    scales = reading.scales()
    assert list(scales) == list(TABLE_4)
    assert list(scales.values()) == ["raw"] * 12 + ["normalised"] * 5
    constant = datasets.constant_scores("test", batch_size=512)["diameter"]["normalised"]
    diameters = published.table(4).query("column == 'diameter'").set_index("label")["mean"]
    assert all((mean > constant) == (scales[row] == "raw") for row, mean in diameters.items())


@pytest.mark.parametrize(("sssp", "laplacian", "verdict"), [
    (0.95, 5.0, "holds"), (1.04, 0.95, "holds"), (1.06, 0.95, "differs"), (1.06, 0.84, "differs")])
def test_the_verdict_follows_from_both_labels(sssp, laplacian, verdict):
    frame = reading.published_tables(pd.DataFrame([run("GCN", "sssp", sssp), run("GCN", "laplacian", laplacian)]))
    found = cell(frame, "GCN", "sssp")  # printed 0.9499 ± 0.0001, raw: tolerance 0.1
    assert found.verdict == verdict and found.tolerance == 0.1 and found.scale == "raw"
    assert (found.ours, found.shifted_ours) == pytest.approx((sssp, laplacian))
    assert ("LX" in found.note) == (laplacian != 5.0) and "mean of 1 run," in found.note and "converted to raw" in found.note
    if laplacian != 5.0:
        assert ("that of LX is, too" in found.note) == (sssp == 1.04) and ("outside, too" in found.note) == (laplacian == 0.84)


def test_means_and_spreads_are_over_seeds_on_the_scale_of_the_row():
    runs = [run("GCN-SSM", "sssp", raw, seed) for seed, raw in enumerate((0.6, 0.8))]
    runs += [run("GCN-SSM", "laplacian", raw, seed) for seed, raw in enumerate((-0.2, -0.4, -0.6))]
    found = cell(reading.published_tables(pd.DataFrame(runs)), "GCN-SSM", "sssp")  # printed −2.82 ± 0.57, normalised
    assert found.scale == "normalised" and found.tolerance == 0.3  # two standard deviations would be 1.13
    assert found.ours == pytest.approx(0.7 - 2 * math.log10(33)) and found.ours_std == pytest.approx(np.std([0.6, 0.8], ddof=1))
    assert found.shifted_ours == pytest.approx(-0.4 - 2 * math.log10(19)) and (found.runs, found.shifted_runs) == (2, 3)


def test_a_cell_is_open_until_both_labels_have_runs():
    frame = reading.published_tables(pd.DataFrame([run("GCN", "sssp", 0.95)]))
    assert frame.verdict.eq("open").all() and frame.note.eq("").all() and len(frame) == 69
    frame = reading.published_tables(pd.DataFrame([run("GCN", "diameter", 0.70)]))
    found = cell(frame, "GCN", "diameter", 2)
    assert found.verdict == "holds" and "LX" not in found.note and (frame.verdict != "open").sum() == 2


def test_a_run_that_two_records_share_counts_once():
    runs = reading.recorded_runs()
    assert not runs.duplicated(["model", "target", "seed", "normalised"]).any()
    both = [experiments.results(name) for name in reading.RECORDS]
    assert len(runs) < sum(map(len, both)) and all(set(part.model) <= set(runs.model) for part in both)


def test_the_recorded_comparison_is_that_of_the_recorded_runs():
    recorded = experiments.results("published_tables")
    again = reading.published_tables()
    assert (recorded.verdict == again.verdict.to_numpy()).all()
    assert np.allclose(recorded.ours, again.ours, equal_nan=True, atol=1e-12)
    assert set(reading.READINGS["shifted"].values()) < set(TARGETS)


def test_no_scale_fits_all_rows():
    """On normalised labels twelve rows would be worse than a constant; raw, the others are far from our runs."""
    recorded = experiments.results("published_tables").query("table == 4 and column == 'diameter'").set_index("row")
    shift = 2 * math.log10(datasets.label_maximum()["diameter"])
    last = recorded[(recorded.scale == "normalised") & (recorded.runs > 0)]
    assert (recorded.scale == "raw").sum() == 12 and len(last) > 0
    for row in last.itertuples():
        near = 1 if row.Index == "DRew-GCN + delay" else 0.5  # which is better here than printed
        assert abs(row.ours - row.paper) < near < 2 < abs(row.ours + shift - row.paper)


def test_adgn_does_not_move_to_the_edge_of_chaos_whatever_its_damping():
    """In the recorded runs the error falls for every γ, but without damping (γ ≤ 0) the distance grows."""
    runs = experiments.results("adgn_gamma").sort_values("epoch").groupby(["gamma", "target", "seed"])
    last, first = runs.last(), runs.first()
    assert (last.validation < 0.6 * first.validation).all() and len(last) >= 20
    undamped = last.index.get_level_values("gamma") <= 0
    assert (last.edge_distance > last.edge_distance_at_first)[undamped].all() and undamped.sum() >= 12


def test_most_networks_end_farther_from_the_edge_of_chaos_than_they_start():
    """The same distance on the same graphs before and after training; plain layers move away in every recorded run."""
    runs = reading.recorded_runs()
    runs = runs.assign(level=runs.target.map(lambda target: "graph" if target == "diameter" else "node"))
    pairs = runs.merge(experiments.results("initial_edge_distance"), on=["model", "level", "seed"],
                       suffixes=("", "_at_first")).dropna(subset=["edge_distance", "edge_distance_at_first"])
    nearer = pairs.edge_distance < pairs.edge_distance_at_first
    assert len(pairs) >= 40 and nearer.mean() < 0.5
    plain = pairs.model.isin(["GCN", "GraphSAGE", "GIN"])
    assert plain.sum() >= 12 and not nearer[plain].any()


def test_models_nearer_to_the_edge_of_chaos_are_not_better_on_the_labels_of_the_paper():
    """Rank correlation of distance and error over all models with runs, means over seeds; only LX, which is no column, has one."""
    runs = reading.recorded_runs().query("normalised").dropna(subset=["edge_distance"])
    means = runs.assign(score=np.log10(runs.test_mse)).groupby(["target", "model"])[["edge_distance", "score"]].mean()
    for target in TARGETS:
        part = means.loc[target]
        rho, p_value = spearmanr(part.edge_distance, part.score)
        assert len(part) >= 25, target
        assert (rho > 0.3 and p_value < 0.05) if target == "laplacian" else (rho < 0.3 and p_value > 0.1), (target, rho, p_value)


def test_the_papers_examples_lie_nearer_to_the_edge_of_chaos_than_a_gcn_and_score_better():
    """A-DGN (as validation keeps it) and SWAN; but GPS scores better than both of them on SSSP and eccentricity, far from it."""
    runs = reading.recorded_runs().query("normalised").assign(score=lambda frame: np.log10(frame.test_mse))
    mean = runs.groupby(["model", "target"])[["edge_distance", "score"]].mean()
    for target in ("diameter", "sssp", "eccentricity"):
        for model in ("A-DGN, ε = 0.1, sum", "SWAN, ε = 0.1"):
            assert (mean.loc[(model, target)] < mean.loc[("GCN", target)]).all(), (model, target)
            if target != "diameter":
                assert mean.score["GPS", target] < mean.score[model, target] - 1
                assert mean.edge_distance["GPS", target] > 10 * mean.edge_distance[model, target]


def test_runs_on_raw_labels_stand_for_their_rows_only_when_asked():
    both = reading.recorded_runs(["raw_labels", "table_4"])
    raw = both[~both.normalised.astype(bool)]
    kept = reading.runs_of_rows(both, normalised=False)
    assert len(kept) == len(raw) >= 16 and set(kept.row) == {"GCN", "GraphSAGE", "GIN", "A-DGN"}
    assert reading.runs_of_rows(both).equals(reading.runs_of_rows(both[both.normalised.astype(bool)]))


def test_the_printed_node_columns_are_nearest_to_other_labels_than_their_names():
    """By root mean square over the rows with runs, and with any one family of models left out: LX, then SSSP.

    "SSSP" by the margin that chapter 12 asks for, and by more without DRew, which is far from its printed row under every
    reading. "Ecc." lies at that margin, because of PH-DGN and GPS, whose printed rows fit no reading either: for it the
    chapter claims no more than which label is nearest.
    """
    runs = reading.runs_of_rows(reading.recorded_runs())
    runs = runs.assign(shift=2 * np.log10(runs.maximum))
    ours, shift = (runs.pivot_table(index="row", columns="target", values=value) for value in ("score", "shift"))
    ours = ours.dropna()
    normalised = pd.Series(reading.scales())[ours.index] == "normalised"
    ours = ours.where(~normalised, ours - shift.loc[ours.index])
    printed = published.table(4).pivot(index="label", columns="column", values="mean").loc[ours.index]
    family = ours.index.map(reading.FAMILY)
    assert len(set(family)) >= 8
    margin = {("nothing", "sssp"): 1.25, ("DRew", "sssp"): 1.5}
    for left_out in ("nothing", *set(family)):
        kept = family != left_out
        for column in ("sssp", "eccentricity"):
            distance = ours[kept].sub(printed[column][kept], axis=0).pow(2).mean().pow(0.5)[["sssp", "eccentricity", "laplacian"]]
            assert distance.idxmin() == reading.READINGS["shifted"][column], (left_out, column)
            assert distance.nsmallest(2).iloc[1] > margin.get((left_out, column), 1.0) * distance.min(), (left_out, column)


def test_the_nearest_label_is_a_better_guess_than_no_reading_and_for_the_eccentricity_not_surely():
    """No reading: a printed number is guessed as the mean of the rows of other families on its scale (chapter 12)."""
    data = audit.comparison(reading.recorded_runs())
    for column, least, most in (("sssp", 0.9, 1.0), ("eccentricity", 0.5, 0.9)):
        drawn = audit.families_drawn_again(data, column)
        better = (drawn[reading.READINGS["shifted"][column]] < drawn["no reading"]).mean()
        assert least < better < most, (column, better)


def test_our_runs_are_evidence_for_lx_in_the_column_sssp_and_at_the_limit_for_sssp_in_the_other():
    """The rule of chapter 12 on its main lines: all rows, each family left out, rows with several seeds, sums, raw labels."""
    runs = reading.recorded_runs()
    data = audit.comparison(runs)
    trials = {f"without {family}": data.without(family) for family in data.family.unique()} | {
        "several seeds": audit.several_seeds(data), "sums": data.replaced(reading.runs_of_rows(runs, TABLE_4)),
        "raw labels": data.replaced(reading.runs_of_rows(reading.recorded_runs("raw_labels"), normalised=False))}
    assert len(data.rows) == 17 and audit.several_seeds(data).family.nunique() >= 8
    assert audit.doubts(data, "sssp", trials) == []
    assert audit.nearest(audit.labels_of(data.block("raw"), "sssp"))[0] == "laplacian"
    normalised = audit.nearest(audit.labels_of(data.block("normalised"), "sssp"))
    assert normalised[0] != "laplacian" and normalised[1] < 1  # so only for the rows read as raw
    label, lead, ratio = audit.nearest(audit.labels_of(data, "eccentricity"))
    assert label == "sssp" and lead > audit.LEAD and abs(ratio - audit.RATIO) < audit.AT_LIMIT
    assert all(audit.nearest(audit.labels_of(trial, "eccentricity"))[0] == "sssp" for trial in trials.values())


def test_the_k_hop_model_with_sums_beats_drew_with_delay_and_with_normalised_shells_not_on_the_diameter():
    """The labels of the paper's table 2, runs of the same setting; sums are what validation keeps for the k-hop model."""
    runs = reading.recorded_runs().query("normalised")
    score = runs.assign(score=np.log10(runs.test_mse)).set_index(["model", "target"]).score
    k_hop = "kGCN-SSM, eig(Λ) = 1, identity"
    for target in ("diameter", "sssp", "eccentricity"):
        drew = score[("DRew-GCN + delay", target)]
        sums, normalised = score[(f"{k_hop}, sum", target)], score[(k_hop, target)]
        assert min(len(drew), len(sums), len(normalised)) >= 2
        assert sums.max() < drew.min() and sums.mean() < drew.mean() - 0.5, target
        assert normalised.mean() > drew.mean() if target == "diameter" else normalised.max() < drew.min(), target


def test_memory_lowers_the_error_of_node_labels_without_a_wider_generalisation_gap():
    """One-hop networks of the same size: a larger model term helps on every node label, and unseen graphs are no harder.

    Every run with memory lies below every run without, but for one: on the eccentricity a GCN may leave its plateau late, and
    a residual GCN stopped early; there the means differ.
    """
    runs = reading.recorded_runs()
    runs = runs.assign(score=np.log10(runs.test_mse), gap=np.log10(runs.test_mse / runs.train_mse)).set_index(["model", "target"])
    memory = ("GCN + residual", "GCN-SSM", "GCN-SSM, eig(Λ) = 1, identity", "GCN-SSM, eig(Λ) = 1, orthogonal")
    for target in TARGETS:
        plain = runs.loc[("GCN", target)]
        assert len(plain) >= 2
        for model in memory:
            with_memory = runs.loc[(model, target)]
            assert abs(with_memory.gap.mean() - plain.gap.mean()) < 0.1, (model, target)
            if (model, target) == ("GCN + residual", "eccentricity"):
                assert with_memory.score.mean() < plain.score.mean() - 0.2 and with_memory.score.median() < plain.score.min()
            else:
                assert target == "diameter" or with_memory.score.max() < plain.score.min(), (model, target)


def test_draws_of_lambda_and_b_apart_from_the_weights_leave_the_main_rows_where_they_are():
    """The runs of the tables drew them from the stream of the weights; here two rows with a stream of their own.

    The sweep's seed is the same, so the pairs share their weights. Means move by less than the spread over seeds, or by less
    than 0.02 where that is smaller still, and every run of the k-hop row stays below every run of DRew with delay.
    """
    def scores(runs):
        return runs.assign(score=np.log10(runs.test_mse) - 2 * np.log10(runs.maximum)).groupby(["model", "target"]).score
    shared, apart = scores(reading.recorded_runs().query("normalised")), scores(experiments.results("independent_draws"))
    k_hop = "kGCN-SSM, eig(Λ) = 1, identity, sum"
    assert (apart.size() == 4).all() and len(apart) == 8
    for key, after in apart:
        before = shared.get_group(key)
        assert len(before) == 4 and abs(after.mean() - before.mean()) < max(before.std(), 0.02), key
        if key[0] == k_hop and key[1] != "laplacian":
            assert after.max() < shared.get_group(("DRew-GCN + delay", key[1])).min(), key
    assert apart.get_group((k_hop, "sssp")).max() < -4.0 and apart.get_group((k_hop, "eccentricity")).max() < -3.8


def test_memory_and_reach_are_each_worth_much_but_not_reach_on_lx_nor_memory_on_the_diameter():
    """Leave one part out of the k-hop network with memory, all with normalised operators, Λ = I, four seeds each."""
    runs = reading.recorded_runs().query("normalised")
    score = runs.assign(score=np.log10(runs.test_mse)).set_index(["model", "target"]).score
    both, memory, reach = "kGCN-SSM, eig(Λ) = 1, identity", "GCN-SSM, eig(Λ) = 1, identity", "k-hop GCN"
    for target in TARGETS:
        full, without_reach, without_memory = (score[(model, target)] for model in (both, memory, reach))
        assert len(full) == len(without_reach) == len(without_memory) == 4
        least = 0.7 if target in ("sssp", "eccentricity") else 0.3  # 0.7: a factor of five
        if target == "laplacian":  # one hop is all that it takes
            assert abs(full.mean() - without_reach.mean()) < 0.1
        else:
            assert full.max() < without_reach.min() and full.mean() < without_reach.mean() - least, target
        if target == "diameter":  # k-hop alone has the smaller error
            assert full.mean() > without_memory.mean() + 0.1
        else:
            assert full.max() < without_memory.min() and full.mean() < without_memory.mean() - least, target
