"""Recorded experiments: complete provenance, atomic files, clear errors, and a command line."""
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from gnnssm_lite import experiments
from gnnssm_lite.__main__ import main
from gnnssm_lite.experiments import records, runner, section3

RECORDED = sorted(path.stem for path in records.results_dir().glob("*.csv"))


def test_results_are_read_from_the_checkout():
    assert records.results_dir().name == "results" and "lemma_3_1" in RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_results_carry_their_provenance(name):
    frame, origin = experiments.results(name), experiments.provenance(name)
    assert len(frame) == origin["rows"] > 0
    assert {"config", "versions", "device", "wall_time_s", "commit", "date"} <= set(origin)
    if "seed" in frame:
        assert set(frame["seed"]) <= set(origin["config"]["seeds"])
    else:  # a measurement of time, or made from the runs of another record
        assert name == "training_speed" or set(origin["config"]["runs"]) <= set(RECORDED)
    assert len(origin["commit"].removesuffix("-dirty")) == 40 and not origin["commit"].endswith("-dirty")


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_results_are_still_made_by_an_experiment(name):
    assert name in experiments.EXPERIMENTS


def test_lemma_3_1_record_stays_below_its_tolerance():
    frame = experiments.results("lemma_3_1")
    assert frame.graph.nunique() >= 5 and frame.max_relative_error.max() <= 1e-10
    assert (frame.d_in != frame.d_out).any() and (frame.graph == "Cora, largest component").any()


def test_proposition_3_3_record_has_no_violation():
    frame = experiments.results("proposition_3_3")
    assert len(frame) >= 200 and frame.slack.min() >= -1e-10 and frame.formula_error.max() <= 1e-10


def test_the_record_is_what_the_code_computes():
    recorded = experiments.results("proposition_3_3")
    fresh = section3.proposition_3_3(seeds=(1,), eigs=(0.9,), kinds=("spread",))
    keys = ["graph", "coupling", "kind", "eig", "seed"]
    both = fresh.merge(recorded, on=keys, suffixes=("", "_recorded"))
    assert len(both) == len(fresh)
    assert (both.norm - both.norm_recorded).abs().max() < 1e-8


def test_a_record_round_trips_and_leaves_no_temporary_file(tmp_path):
    frame = pd.DataFrame({"seed": [0, 1], "value": [1 / 3, 2.0]})
    records.record("toy", frame, {"seeds": [0, 1]}, torch.device("cpu"), 1.5, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["toy.csv", "toy.json"]
    assert records.results("toy", tmp_path).value[0] == pytest.approx(1 / 3, rel=1e-11)
    assert records.provenance("toy", tmp_path)["device"] == "cpu"


def test_a_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    frame = pd.DataFrame({"seed": [0]})
    records.record("toy", frame, {}, torch.device("cpu"), 1.0, tmp_path)
    before = (tmp_path / "toy.csv").read_text()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        records.record("toy", pd.DataFrame({"seed": [1]}), {}, torch.device("cpu"), 1.0, tmp_path)
    assert (tmp_path / "toy.csv").read_text() == before
    assert sorted(os.listdir(tmp_path)) == ["toy.csv", "toy.json"]


def test_missing_and_foreign_records_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results are recorded for 'nothing'"):
        records.results("nothing", tmp_path)
    pd.DataFrame({"seed": [0]}).to_csv(tmp_path / "bare.csv")
    with pytest.raises(FileNotFoundError, match="no provenance is recorded for 'bare'"):
        records.results("bare", tmp_path)
    (tmp_path / "bare.json").write_text(json.dumps({"layout": 0}))
    with pytest.raises(ValueError, match="bare.json has layout 0; this version reads layout 1"):
        records.results("bare", tmp_path)


def test_unknown_experiments_suggest_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'lemma_3_1'"):
        experiments.run("lemma31")


def test_a_sweep_repeats_no_finished_run(tmp_path):
    calls = []

    def function(seed, scale):
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"value": scale * seed}

    grid = [{"seed": seed, "scale": 2} for seed in range(4)]
    with pytest.raises(KeyboardInterrupt):
        runner.sweep("toy", function, grid, tmp_path)
    frame = runner.sweep("toy", function, grid, tmp_path)
    assert calls == [0, 1, 2, 2, 3] and list(frame.value) == [0, 2, 4, 6]
    assert list(runner.sweep("toy", function, [{"seed": 1, "scale": 3}], tmp_path).value) == [3]


def test_command_line_lists_shows_and_runs(tmp_path, capsys):
    assert main(["list"]) == 0 and "lemma_3_1" in capsys.readouterr().out
    assert main(["show", "lemma_3_1"]) == 0 and "commit" in capsys.readouterr().out
    assert main(["show", "lemma31"]) == 2 and "no results are recorded" in capsys.readouterr().err
    assert main(["run", "lemma31"]) == 2 and "did you mean" in capsys.readouterr().err
    assert main(["run", "lemma_3_1", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert records.provenance("lemma_3_1", tmp_path)["config"]["seeds"] == [0]


def test_the_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "gnnssm_lite", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "theorem_3_2" in done.stdout


def test_import_has_no_side_effects():
    code = ("import torch, warnings, numpy as np, matplotlib as mpl; filters = list(warnings.filters); rc = dict(mpl.rcParams);"
            "state = torch.get_rng_state(); numpy_state = np.random.get_state()[1].copy();"
            "import gnnssm_lite.experiments.figure6, gnnssm_lite.experiments.oversmoothing, gnnssm_lite.plotting,"
            " gnnssm_lite.widgets, gnnssm_lite.experiments.section3;"
            "assert torch.equal(state, torch.get_rng_state()); assert (numpy_state == np.random.get_state()[1]).all();"
            "assert rc == dict(mpl.rcParams)")
    done = subprocess.run([sys.executable, "-W", "error::UserWarning:gnnssm_lite", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- records are not lost

def test_a_folder_that_cannot_be_written_is_found_out_before_the_experiment(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(section3, "jacobian_moments", lambda **options: pytest.fail("the experiment was started"), raising=False)
    name = next(name for name, module in experiments.EXPERIMENTS.items() if module == "section3")
    monkeypatch.setattr(section3, name, lambda seeds=(0,), device="cpu", progress=False: pytest.fail("it was started"))
    assert main(["run", name, "--out", str(tmp_path / "file" / "inside")]) == 2
    assert "folder of results" in capsys.readouterr().err


def test_results_without_room_leave_the_old_record_whole(tmp_path, monkeypatch):
    frame = pd.DataFrame({"value": [1.5, 2.5, 3.5]})
    records.record("x", frame, {"seeds": [0]}, torch.device("cpu"), 1.0, tmp_path)

    def no_room(path, content):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(records, "write_atomic", no_room)
    with pytest.raises(OSError):
        records.record("x", pd.concat([frame] * 9), {"seeds": [0, 1]}, torch.device("cpu"), 2.0, tmp_path)
    assert records.results("x", tmp_path).equals(frame) and records.provenance("x", tmp_path)["config"] == {"seeds": [0]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.json"]


def test_results_beside_the_provenance_of_others_are_refused(tmp_path):
    path = records.record("x", pd.DataFrame({"value": [1.0, 2.0]}), {}, torch.device("cpu"), 1.0, tmp_path)
    path.write_text("value\n1.0\n")
    with pytest.raises(ValueError, match="must be the file whose SHA-256 its provenance says"):
        records.results("x", tmp_path)


def test_a_stop_between_the_two_files_of_a_record_is_noticed(tmp_path, monkeypatch):
    records.record("x", pd.DataFrame({"value": [1.0, 2.0]}), {"lr": 1}, torch.device("cpu"), 1.0, tmp_path)
    replace = os.replace

    def stop(source, target):
        if str(target).endswith("x.csv"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(records.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        records.record("x", pd.DataFrame({"value": [7.0, 8.0]}), {"lr": 9}, torch.device("cpu"), 1.0, tmp_path)
    with pytest.raises(ValueError, match="were not written together"):
        records.results("x", tmp_path)


def test_a_record_survives_other_ends_of_lines(tmp_path):
    path = records.record("x", pd.DataFrame({"value": [1.0, 2.0]}), {}, torch.device("cpu"), 1.0, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert records.results("x", tmp_path).value.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("content", ['{"layout": 1, "na', "[1]"])
def test_a_provenance_that_is_none_is_named(tmp_path, content):
    records.record("x", pd.DataFrame({"value": [1.0]}), {}, torch.device("cpu"), 1.0, tmp_path)
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match="x.json"):
        records.results("x", tmp_path)


def test_finished_does_not_replace_a_record_by_fewer_runs(tmp_path, monkeypatch, capsys):
    """On another machine the cache is empty or younger than the record that came with the checkout."""
    from gnnssm_lite.experiments import transfer
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path / "results")
    half = {"models": ("GCN",), "sizes": (6,), "seeds": (0,), "lrs": (0.003,), "hidden": 8, "epochs": 3}
    recorded = pd.DataFrame({"value": range(7)})
    records.record("ring_transfer_accuracy", recorded, {}, torch.device("cpu"), 1.0)
    monkeypatch.setattr(transfer.ring_transfer_accuracy, "__defaults__", tuple(
        half.get(name, default) for name, default in zip(transfer.ring_transfer_accuracy.__code__.co_varnames,
                                                         transfer.ring_transfer_accuracy.__defaults__, strict=False)))
    for _ in range(2):
        assert main(["run", "ring_transfer_accuracy", "--finished"]) == 2
        assert records.results("ring_transfer_accuracy").equals(recorded)
        words = capsys.readouterr().err
        transfer.ring_transfer_accuracy()
    assert "7 rows" in words and "--out" in words
