"""Sweeps: no finished run is lost or repeated, whatever is killed; the same configuration gives the same bits; clear errors."""
import contextlib
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import torch
from filelock import FileLock
from torch import nn

from gnnssm_lite import device, experiments
from gnnssm_lite.__main__ import main
from gnnssm_lite.experiments import records, runner
from gnnssm_lite.experiments.runner import grid, histories, load_runs, missing, run_path, sweep
from gnnssm_lite.training import TrainingConfig, fit

# A module of its own, because workers import it: runs that note in the file LOG when they start, and what kills them.
TARGET = '''
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from gnnssm_lite.experiments.runner import grid, sweep
from gnnssm_lite.training import TrainingConfig, fit


def note(**what):
    with open(os.environ["LOG"], "a") as file:
        file.write(json.dumps(what) + "\\n")


def train(width, seed, epochs, checkpoint=None):
    note(start=[width, seed], pid=os.getpid())
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Dropout(0.3), nn.Linear(width, 1))
    x = torch.randn(32, 4)
    y = x.prod(1, keepdim=True)
    loss = lambda model, batch: nn.functional.mse_loss(model(x), y)
    config = TrainingConfig(max_epochs=epochs, patience=epochs, seed=seed)

    def validate(model):
        with open(os.environ["LOG"] + ".epochs", "a") as file:
            file.write(".")
        return float(loss(model, 0))

    done = fit(model, lambda: [0], loss, validate, config, checkpoint)
    return {"best": done.best_validation, "best_epoch": done.best_epoch, "history": done.history}


GRID = grid(width=(3, 8), seed=range(8), epochs=(EPOCHS,))


def fatal(number):
    if number == 0:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)   # as the out-of-memory killer does
    time.sleep(0.6)
    return {"value": number}


def finished(folder):
    """Keys of the recorded runs; every file must be valid JSON."""
    runs = [json.loads(path.read_text(), parse_constant=float.fromhex) for path in Path(folder).glob("train/*.json")]
    return [[run["config"]["width"], run["config"]["seed"]] for run in runs]


def fork(folder):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sweep("train", train, GRID, folder)
            status = 0
        finally:
            os._exit(status)
    return pid


def wait_for_epochs(number):
    """On a busy machine a moment is better measured by what was done than by a clock."""
    file = Path(os.environ["LOG"] + ".epochs")
    file.touch()
    goal = file.stat().st_size + number
    while file.stat().st_size < goal:
        time.sleep(0.001)


def kill_ten_times(folder):
    moments = random.Random()
    for _ in range(10):
        pid = fork(folder)
        wait_for_epochs(moments.randint(0, int(1.4 * EPOCHS)))
        time.sleep(moments.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        note(killed=os.waitpid(pid, 0)[1] == signal.SIGKILL, finished=finished(folder))
    assert os.waitpid(fork(folder), 0)[1] == 0


def two_at_once(folder):
    assert [os.waitpid(pid, 0)[1] for pid in (fork(folder), fork(folder))] == [0, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "sweep":
        sweep("train", train, GRID, sys.argv[2], jobs=2)
    for do in (kill_ten_times, two_at_once) if sys.argv[1] == "kill" else ():
        folder = Path(sys.argv[2], do.__name__)
        folder.mkdir()
        os.environ["LOG"] = str(folder / "log")
        do(folder)
'''
EPOCHS = 200


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Folder of the module ``sweep_target``, with its grid."""
    folder = tmp_path_factory.mktemp("target")
    (folder / "sweep_target.py").write_text(TARGET.replace("EPOCHS", str(EPOCHS)))
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def environment(target, folder):
    path = os.pathsep.join(filter(None, [str(target), os.environ.get("PYTHONPATH")]))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "LOG": str(folder / "log")}


def start(target, folder, command):
    return subprocess.Popen([sys.executable, str(target / "sweep_target.py"), command, str(folder)],
                            env=environment(target, folder), stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def disturbed(target, tmp_path_factory):
    """Folders of a sweep that was killed ten times, and of two sweeps that ran at once."""
    folder = tmp_path_factory.mktemp("disturbed")
    process = start(target, folder, "kill")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return {"killed": folder / "kill_ten_times", "two": folder / "two_at_once"}


def log(folder):
    path = folder / "log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, seconds=240):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.02)


@contextlib.contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(target, tmp_path_factory):
    """Results and histories of a sweep that nothing disturbed, as exact numbers."""
    import sweep_target

    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("LOG", str(folder / "log"))
        sweep("train", sweep_target.train, sweep_target.GRID, folder)
    return numbers(folder)


def numbers(folder):
    import sweep_target

    frame = load_runs("train", sweep_target.GRID, folder).drop(columns="seconds")
    assert len(frame) == len(sweep_target.GRID)
    return frame, histories("train", sweep_target.GRID, folder)


def assert_same_numbers(folder, expected):
    for found, wanted in zip(numbers(folder), expected, strict=True):
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def leftovers(folder):
    return sorted(path.name for path in (folder / "train").iterdir() if path.suffix != ".json")


# ----------------------------------------------------------------------------------------------- whatever is killed

def test_ten_kills_lose_no_finished_run_and_change_no_number(disturbed, uninterrupted):
    folder, done = disturbed["killed"], set()
    events = log(folder)
    for event in events:
        if "killed" in event:
            now = {tuple(key) for key in event["finished"]}
            assert done <= now, "a finished run was lost"
            done = now
        else:
            assert tuple(event["start"]) not in done, "a finished run was repeated"
    assert [event["killed"] for event in events if "killed" in event] == [True] * 10 and 0 < len(done) < 16
    assert sum(run["provenance"]["resumed"] for run in runner._runs("train", None, folder)) > 0
    assert_same_numbers(folder, uninterrupted)
    assert leftovers(folder) == []


def test_what_a_process_left_that_was_killed_right_after_recording_is_removed(tmp_path):
    configs = grid(value=[1, 2])
    sweep("train", double, configs, tmp_path)
    path = run_path("train", configs[0], tmp_path)
    for suffix in (".lock", ".checkpoint", ".checkpoint_commits"):
        path.with_suffix(suffix).write_text("[]")
    assert len(leftovers(tmp_path)) == 3
    again = sweep("train", double, configs, tmp_path)
    assert leftovers(tmp_path) == [] and again.doubled.tolist() == [2.0, 4.0]


def test_workers_die_with_their_sweep_and_a_killed_worker_is_replaced(target, tmp_path, uninterrupted, monkeypatch):
    import sweep_target

    first = start(target, tmp_path, "sweep")
    wait_for(lambda: log(tmp_path))
    first.kill()
    first.communicate()
    workers = {event["pid"] for event in log(tmp_path)}
    wait_for(lambda: not any(map(alive, workers)), seconds=10)
    kept, seen = len(list(tmp_path.glob("train/*.json"))), len(log(tmp_path))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(sweep, "train", sweep_target.train, sweep_target.GRID, tmp_path, jobs=2)
        wait_for(lambda: len(log(tmp_path)) > seen)
        os.kill(log(tmp_path)[-1]["pid"], signal.SIGKILL)
        future.result(timeout=120)
    starts = [tuple(event["start"]) for event in log(tmp_path)]
    assert kept < 16 and len(starts) <= 16 + 4  # at most two runs were under way at each of the two kills
    assert_same_numbers(tmp_path, uninterrupted)


def test_a_run_that_kills_its_process_does_not_keep_the_others_from_being_done(target, tmp_path, monkeypatch):
    import sweep_target

    monkeypatch.setattr(runner, "MAX_DEATHS", 1)
    runs = grid(number=(0, 1, 2, 3))
    with pytest.raises(runner.SweepError, match="1 of 4 runs of 'fatal' failed"):
        sweep("fatal", sweep_target.fatal, runs, tmp_path, jobs=2)
    assert missing("fatal", runs, tmp_path) == [{"number": 0}]


def test_what_a_run_sets_in_torch_is_put_back(tmp_path):
    def careless(bits):
        torch.set_default_dtype(torch.float64 if bits == 64 else torch.get_default_dtype())
        torch.set_grad_enabled(False)
        return {"bytes": torch.ones(1).element_size()}
    assert sweep("careless", careless, grid(bits=(64, 32)), tmp_path).bytes.tolist() == [8, 4]
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


@pytest.fixture
def interruptible():
    """Python's own answer to an interrupt, also where a shell started the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_the_workers_at_once_and_keeps_the_runs(target, tmp_path, monkeypatch, interruptible):
    import sweep_target

    monkeypatch.setenv("LOG", str(tmp_path / "log"))

    def interrupt():
        wait_for(lambda: list(tmp_path.glob("train/*.json")))
        os.kill(os.getpid(), signal.SIGINT)
        return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep("train", sweep_target.train, sweep_target.GRID, tmp_path, jobs=2)
        assert time.monotonic() - future.result() < 5
    wait_for(lambda: not any(alive(event["pid"]) for event in log(tmp_path)), seconds=5)
    assert 0 < len(load_runs("train", sweep_target.GRID, tmp_path)) < 16


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_two_sweeps_of_one_folder_do_each_run_once(disturbed, uninterrupted):
    folder = disturbed["two"]
    starts = [tuple(event["start"]) for event in log(folder)]
    assert len(starts) == len(set(starts)) == 16
    assert len({event["pid"] for event in log(folder)}) == 2
    assert_same_numbers(folder, uninterrupted)
    assert leftovers(folder) == []


def test_a_cluster_completes_when_a_worker_is_killed_in_the_middle(target, tmp_path, uninterrupted):
    distributed = pytest.importorskip("distributed")
    import sweep_target

    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    commands = [["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common]] + [
        ["distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", "--local-directory",
         str(tmp_path), *common]] * 2
    with contextlib.ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen([sys.executable, "-m", *command], env=environment(target, tmp_path),
                                       stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        wait_for(file.exists)
        client = stack.enter_context(distributed.Client(scheduler_file=str(file)))
        client.wait_for_workers(2, timeout=60)
        future = stack.enter_context(ThreadPoolExecutor(1)).submit(
            sweep, "train", sweep_target.train, sweep_target.GRID, tmp_path, executor=client.get_executor())
        wait_for(lambda: len({event["pid"] for event in log(tmp_path)}) == 2)
        os.kill(log(tmp_path)[-1]["pid"], signal.SIGKILL)
        assert len(future.result(timeout=120)) == 16
        assert len(client.scheduler_info()["workers"]) == 1
    starts = [tuple(event["start"]) for event in log(tmp_path)]
    assert 16 <= len(starts) <= 17 and len(set(starts)) == 16
    assert_same_numbers(tmp_path, uninterrupted)


# ------------------------------------------------------------------------------------------------------ determinism

def train(seed, dropout, device="cpu"):
    """Draws weights and data from torch's global generator, as a function that forgot its seed would."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(dropout), nn.Linear(4, 1))
    x = torch.randn(8, 3)
    done = fit(model, lambda: [0], lambda m, b: m(x).square().mean(), lambda m: float(m(x).square().mean()),
               TrainingConfig(max_epochs=5, patience=5, seed=seed))
    return {"best": done.best_validation, "history": done.history}


def test_the_same_configuration_gives_the_same_bits_in_any_order(tmp_path):
    configs = grid(seed=(0, 1, 2), dropout=(0.0, 0.5))
    state = torch.get_rng_state()
    sweep("bits", train, configs, tmp_path / "a")
    assert torch.equal(state, torch.get_rng_state()), "a sweep must leave the caller's generator alone"
    torch.manual_seed(99)
    sweep("bits", train, configs[::-1], tmp_path / "b")
    for config in configs:
        a, b = (json.loads(run_path("bits", config, tmp_path / side).read_text()) for side in "ab")
        assert a["result"] == b["result"] and a["history"] == b["history"]
    assert load_runs("bits", configs, tmp_path / "a").best.nunique() == len(configs)


def test_every_run_says_how_it_came_about(tmp_path):
    sweep("bits", train, [{"seed": 0, "dropout": 0.5}], tmp_path)
    run = json.loads(run_path("bits", {"seed": 0, "dropout": 0.5}, tmp_path).read_text())
    assert run["layout"] == 2 and run["name"] == "bits" and run["config"] == {"seed": 0, "dropout": 0.5}
    assert set(run["history"]) == {"epoch", "loss", "validation"} and len(run["history"]["loss"]) == 5
    origin = run["provenance"]
    assert origin["versions"] == records.versions() and origin["device"] == "cpu" and origin["deterministic"] is True
    assert origin["threads"] == torch.get_num_threads() and origin["seconds"] >= 0 and origin["resumed"] is False
    assert len(origin["commit"].removesuffix("-dirty")) == 40 or origin["commit"] == "unknown"


def test_what_is_not_deterministic_is_recorded(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def notes(device):
        found = []
        yield found
        found.append("scatter_add has no deterministic implementation")

    monkeypatch.setattr(runner, "determinism_notes", notes)
    with runner.collect_runs() as runs:
        frame = sweep("bits", train, [{"seed": 0, "dropout": 0.0}], tmp_path)
    assert runs[0]["deterministic"] == ["scatter_add has no deterministic implementation"]
    records.record("bits", frame, {"seeds": [0]}, torch.device("cpu"), 1.0, tmp_path, runs)
    assert records.provenance("bits", tmp_path)["runs"]["deterministic"] == runs[0]["deterministic"]


def test_operations_without_a_deterministic_form_are_noted_once_each():
    other = torch.device("meta")  # stands for any accelerator; put_ has no deterministic form on the CPU either
    with device.determinism_notes(other) as notes:
        for _ in range(3):
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert len(notes) == 1 and "put_" in notes[0]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_leaves_no_setting_to_the_next(tmp_path):
    def function(value, flush):
        if flush:
            torch.set_flush_denormal(True)
            torch.set_num_threads(2)
        return {"tiny": float(torch.tensor(1e-310, dtype=torch.float64) * value)}

    threads = torch.get_num_threads()
    frame = sweep("toy", function, [{"value": 1.0, "flush": True}, {"value": 1.0, "flush": False}], tmp_path)
    assert list(frame.tiny) == [0.0, 1e-310] and torch.get_num_threads() == threads


@pytest.mark.skipif(device.default_device().type == "cpu", reason="needs an accelerator")
def test_an_accelerator_names_operations_without_a_deterministic_form():
    place = device.default_device()
    with device.determinism_notes(place) as notes:
        torch.randn(100, device=place).cumsum(0) + torch.histc(torch.rand(100, device=place), 10).sum()
    assert notes and all("deterministic" in note for note in notes)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_record_of_a_sweep_names_the_commits_of_its_runs(tmp_path):
    runs = [{"commit": commit, "seconds": 1.5, "device": "cpu", "date": "2026-01-02", "deterministic": True,
             "threads": 1, "resumed": commit == "a"} for commit in "bab"]
    records.record("toy", pd.DataFrame({"seed": [0]}), {}, torch.device("cpu"), 0.1, tmp_path, runs)
    summary = records.provenance("toy", tmp_path)["runs"]
    assert summary["commits"] == ["a", "b"] and summary["wall_time_s"] == 4.5 and summary["number"] == 3
    assert summary["threads"] == [1] and summary["resumed"] == 1
    assert records.describe_run("toy", tmp_path).startswith("3 recorded runs of 2026-01-02 on cpu, torch ")
    assert records.describe_run("toy", tmp_path).endswith(", 2 commits, which book/results/toy.json lists.")


# ----------------------------------------------------------------------------------------------- grids and results

def double(value, scale=2.0):
    return {"doubled": scale * value}


def test_a_grid_runs_through_its_last_axis_first():
    assert grid(a=[1, 2], b=("x", "y")) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(("axes", "error", "message"), [
    ({"a": []}, ValueError, "a must hold at least one value"),
    ({"a": 3}, TypeError, "a must be a list of values; it was 3"),
    ({"a": "xy"}, TypeError, "a must be a list of values"),
    ({"a": {1, 2}}, TypeError, "a must be a list of values"),
])
def test_bad_axes_are_named(axes, error, message):
    with pytest.raises(error, match=message):
        grid(**axes)


@pytest.mark.parametrize(("configs", "error", "message"), [
    ([], ValueError, "grid must hold at least one configuration"),
    ({"value": 1}, TypeError, "grid must be a list of configurations"),
    ([3], TypeError, r"grid\[0\] must be a dict; it was 3"),
    ([{"value": 1}, {"value": 1}], ValueError, r"grid\[0\] and grid\[1\] are both"),
    ([{"value": torch.tensor(1)}], TypeError, r"'value' was tensor\(1\) of type Tensor"),
    ([{"value": float("nan")}], TypeError, "finite numbers"),
    ([{"value": {1: 2}}], TypeError, "as JSON does"),
    ([{"value": 1, "skale": 2}], ValueError, r"grid\[0\] must hold parameters of double; it sets 'skale'; did you mean 'scale'"),
    ([{"value": 1}, {"scale": 2}], ValueError, r"grid\[1\] must set 'value' of double"),
    ([{"value": 1, "checkpoint": "x"}], ValueError, "must not set 'checkpoint': the runner passes it"),
])
def test_bad_grids_are_named_before_anything_runs(configs, error, message, tmp_path):
    with pytest.raises(error, match=message):
        sweep("double", double, configs, tmp_path)
    assert not any(tmp_path.iterdir())


def test_other_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        sweep("double", double, grid(value=[1]), tmp_path, jobs=0)
    with pytest.raises(ValueError, match="name must consist of"):
        sweep("../double", double, grid(value=[1]), tmp_path)
    with pytest.raises(TypeError, match="defined at the top of a module"):
        sweep("double", lambda value: {}, grid(value=[1]), tmp_path, jobs=2)


def test_results_histories_and_missing_runs_are_read_back(tmp_path):
    def function(value):
        return {"square": torch.tensor(value**2), "worst": float("inf"), "text": "inf", "nothing": None,
                "history": {"loss": [1.0, float("nan")], "float": [0.5, 1 / 3]}}

    configs = grid(value=(3, 1))
    frame = sweep("toy", function, configs, tmp_path)
    assert list(frame.value) == [3, 1] and list(frame.square) == [9, 1] and list(frame.text) == ["inf", "inf"]
    assert (frame.worst == float("inf")).all() and frame.nothing.isna().all()
    pd.testing.assert_frame_equal(frame, load_runs("toy", configs, tmp_path))
    assert list(load_runs("toy", folder=tmp_path).value) == [1, 3]
    epochs = histories("toy", configs, tmp_path)
    assert list(epochs.columns) == ["value", "epoch", "loss", "float"] and list(epochs.value) == [3, 3, 1, 1]
    assert list(epochs.epoch) == [0, 1, 0, 1] and epochs.float[1] == 1 / 3 and epochs.loss.isna().sum() == 2
    assert missing("toy", grid(value=(1, 2)), tmp_path) == [{"value": 2}]
    assert load_runs("none", folder=tmp_path).empty and histories("none", folder=tmp_path).empty
    json.loads(run_path("toy", configs[0], tmp_path).read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(("result", "message"), [
    (3, "must return a dict; it returned int"), ({"a": [1]}, "result 'a' must be a number or a string"),
    ({"seconds": 1}, "must not hold 'seconds'"), ({"history": {"a": [1], "b": [1, 2]}}, "equally long"),
])
def test_bad_results_are_named(result, message, tmp_path):
    with pytest.raises(runner.SweepError, match=message):
        sweep("toy", lambda value: result, grid(value=[1]), tmp_path)


def test_runs_of_other_versions_do_not_count(tmp_path, monkeypatch):
    sweep("double", double, grid(value=[1]), tmp_path)
    monkeypatch.setattr(runner, "_versions", lambda: records.versions() | {"torch": "0.1"})
    assert missing("double", grid(value=[1]), tmp_path) == [{"value": 1}]
    with pytest.warns(UserWarning, match="1 runs of 'double' were made with other versions"):
        assert load_runs("double", folder=tmp_path).empty


def test_failed_runs_are_reported_after_all_others_ended(tmp_path):
    def function(value):
        if value % 2:
            raise ArithmeticError(f"{value} is odd")
        return {"half": value / 2}

    with pytest.raises(runner.SweepError, match=r"2 of 5 runs of 'toy' failed.*\{'value': 1\}: ArithmeticError: 1 is odd") as caught:
        sweep("toy", function, grid(value=range(5)), tmp_path)
    assert [config for config, _ in caught.value.failures] == [{"value": 1}, {"value": 3}]
    assert isinstance(caught.value.__cause__, ArithmeticError)
    assert list(load_runs("toy", folder=tmp_path).half) == [0, 1, 2]


def test_threads_of_an_executor_do_one_run_at_a_time(tmp_path):
    running, most = [], []

    def function(value):
        running.append(value)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(value)
        return {"square": value**2}

    with ThreadPoolExecutor(3) as pool:
        frame = sweep("toy", function, grid(value=range(6)), tmp_path, executor=pool)
        assert pool.submit(int, "1").result() == 1, "the executor stays open"
    assert list(frame.square) == [0, 1, 4, 9, 16, 25] and max(most) == 1


def test_a_run_that_another_process_holds_is_awaited_at_the_end(tmp_path):
    calls, configs = [], grid(value=range(3))
    path = run_path("toy", configs[0], tmp_path)
    path.parent.mkdir(parents=True)

    def function(value):
        calls.append(value)
        return {"square": value**2}

    with ThreadPoolExecutor(1) as pool, FileLock(path.with_suffix(".lock")):
        future = pool.submit(sweep, "toy", function, configs, tmp_path)
        wait_for(lambda: calls == [1, 2], 10)
        time.sleep(0.1)
        assert not future.done()
        other = json.loads(run_path("toy", configs[1], tmp_path).read_text()) | {"config": configs[0], "result": {"square": -1}}
        path.write_text(json.dumps(other))
        frame = future.result(timeout=10) if not released(path) else None
    assert calls == [1, 2] and list(frame.square) == [-1, 1, 4]


def released(path):
    """The holder's lock file goes when its run is recorded, as after any run."""
    path.with_suffix(".lock").unlink()
    return False


# ------------------------------------------------------------------------------------------------ folders and files

def test_an_unwritable_folder_is_named_before_the_first_run(tmp_path):
    (tmp_path / "file").write_text("")
    calls = []
    with pytest.raises(runner.RunFolderError, match="cannot write the folder of runs .*file/toy.*choose another folder"):
        sweep("toy", lambda value: calls.append(value) or {}, grid(value=[1]), tmp_path / "file")
    assert calls == []


def full_after(number, monkeypatch):
    """Let ``number`` records be written; then the disk is full."""
    write, count = runner.write_atomic, []

    def limited(path, content):
        if path.suffix == ".json":
            count.append(path)
            if len(count) > number:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(runner, "write_atomic", limited)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_full_disk_stops_the_sweep_and_keeps_what_was_recorded(tmp_path, monkeypatch, threads):
    calls = []

    def function(value):
        calls.append(value)
        time.sleep(0.05)
        return {"square": value**2}

    with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
        full_after(2, patch)
        executor = stack.enter_context(ThreadPoolExecutor(1)) if threads else None
        with pytest.raises(runner.RunFolderError, match="No space left on device.*recorded before are kept") as caught:
            sweep("toy", function, grid(value=range(9)), tmp_path, executor=executor)
    assert "will be repeated" in str(caught.value) and len(calls) < 9
    assert list(load_runs("toy", folder=tmp_path).square) == [0, 1]
    frame = sweep("toy", function, grid(value=range(9)), tmp_path)
    assert list(frame.square) == [value**2 for value in range(9)] and calls.count(0) == calls.count(1) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 KiB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a file system is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_on_a_really_full_disk_the_last_run_is_kept_elsewhere(small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def function(value):
        return {"history": {"loss": [value / 3] * 1000}}

    with pytest.raises(runner.RunFolderError, match="No space left on device") as caught:
        sweep("toy", function, grid(value=range(1, 9)), small_disk)
    kept = len(load_runs("toy", folder=small_disk))
    assert 1 <= kept < 8
    assert not list(small_disk.glob("toy/.*.part"))
    place = Path(str(caught.value).split("is kept in ")[1].split(";")[0])
    assert json.loads(place.read_text())["config"] == {"value": kept + 1}


def test_a_file_of_an_older_layout_stops_the_sweep_and_stays(tmp_path):
    configs, calls = grid(value=(1, 2)), []
    path = run_path("toy", configs[1], tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"value": 2, "square": 4, "seconds": 0.1}))
    for read in (lambda: sweep("toy", lambda value: calls.append(value) or {}, configs, tmp_path),
                 lambda: load_runs("toy", folder=tmp_path), lambda: missing("toy", configs, tmp_path)):
        with pytest.raises(runner.OldLayoutError, match=f"{path.name} has layout 1 .*reads layout 2.*Move the file") as caught:
            read()
    assert isinstance(caught.value, ValueError) and calls == [] and json.loads(path.read_text())["square"] == 4
    path.write_text(json.dumps({"layout": 3}))
    with pytest.raises(runner.OldLayoutError, match="has layout 3"):
        load_runs("toy", folder=tmp_path)


@pytest.mark.parametrize("damage", [lambda text: text[:50], lambda text: "", lambda text: '{"layout": 2}'])
def test_a_truncated_file_is_named_and_moved_aside_never_deleted(tmp_path, damage):
    configs = grid(value=(1, 2))
    sweep("double", double, configs, tmp_path)
    path = run_path("double", configs[0], tmp_path)
    broken = damage(path.read_text())
    path.write_text(broken)
    with pytest.raises(runner.CorruptRunError, match=path.name):
        load_runs("double", folder=tmp_path)
    with pytest.warns(UserWarning, match=f"{path.name} must hold .*moved aside"):
        frame = sweep("double", double, configs, tmp_path)
    assert list(frame.doubled) == [2, 4]
    assert [file.read_text() for file in path.parent.glob("*.corrupt")] == [broken]


# ----------------------------------------------------------------------------------------------------- command line

@pytest.mark.parametrize("name", experiments.names())
def test_every_experiment_has_a_quick_form(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path / "cache"))
    before = {path: path.stat().st_mtime_ns for path in records.results_dir().iterdir()}
    begin = time.process_time()
    assert main(["run", name, "--quick", "--out", str(tmp_path)]) == 0
    assert time.process_time() - begin < 120  # no measurement: it tells a quick form from a full one, also beside other work
    assert len(records.results(name, tmp_path)) == records.provenance(name, tmp_path)["rows"] > 0
    assert before == {path: path.stat().st_mtime_ns for path in records.results_dir().iterdir()}


def test_quick_results_never_replace_a_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
    assert main(["run", "lemma_3_1", "--quick"]) == 0
    assert "recorded only with --out" in capsys.readouterr().out and not any(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "message"), [
    (["lemma_3_1", "--jobs", "2"], "lemma_3_1 does not take --jobs; it takes --device, --seeds, --quick and --out"),
    (["published_tables", "--device", "cpu"], "published_tables does not take --device; it takes --quick and --out"),
    (["lemma_3_1", "--scheduler", "tcp://x:1"], "lemma_3_1 does not take --scheduler"),
    (["lemma_3_1", "--seeds", "0"], "--seeds must be at least 1; it was 0"),
    (["cora_depth", "--jobs", "-1"], "--jobs must be at least 1; it was -1"),
    (["cora_depth", "--jobs", "2", "--scheduler", "tcp://x:1"], "with --scheduler the workers of the cluster decide"),
    (["cora_depth", "lemma31"], "did you mean 'lemma_3_1'"),
    (["cora_depth", "--device", "abacus"], "prefer must name a device"),
])
def test_bad_options_are_named_before_anything_runs(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(experiments, "run", lambda name, **options: pytest.fail("ran") if options else REAL_RUN(name))
    assert main(["run", *arguments]) == 2
    assert message in capsys.readouterr().err


REAL_RUN = experiments.run


def test_a_missing_dask_is_named_with_the_remedy(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["run", "cora_depth", "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "pip install distributed" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "status", "message"), [
    (KeyboardInterrupt(), 130, "runs that ended are kept, and the same command continues"),
    (runner.RunFolderError("cannot write the folder of runs X"), 1, "error: cannot write the folder of runs X"),
    (runner.SweepError("2 of 5 runs failed"), 1, "error: 2 of 5 runs failed"),
])
def test_stops_are_told_in_one_line(raised, status, message, capsys, monkeypatch):
    def stop(name, **options):
        raise raised

    monkeypatch.setattr(experiments, "run", stop)
    assert main(["run", "lemma_3_1"]) == status
    errors = capsys.readouterr().err
    assert message in errors and "Traceback" not in errors


def test_list_tells_how_far_a_sweep_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path))
    assert main(["list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cora_depth"))
    assert "0 of 240 runs of its sweep finished" in line
    assert not any(tmp_path.iterdir()), "to count is not to run"


def test_progress_shows_time_for_a_run_and_what_is_left(tmp_path, capsys):
    sweep("toy", lambda value: time.sleep(0.15) or {}, grid(value=range(3)), tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown and ("run/s" in shown or "s/run" in shown) and "<" in shown


def test_no_thread_or_warning_filter_is_left_behind(tmp_path):
    threads, filters = threading.active_count(), list(warnings.filters)
    sweep("double", double, grid(value=[1]), tmp_path)
    assert threading.active_count() == threads and filters == list(warnings.filters)


def test_finished_records_what_has_ended_and_runs_nothing(tmp_path, monkeypatch, capsys):
    """--finished on half of a sweep: the half is recorded with its provenance, the rest stays to be run."""
    from gnnssm_lite.experiments import transfer
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path / "cache"))
    half = {"models": ("GCN",), "sizes": (6,), "seeds": (0,), "lrs": (0.003,), "hidden": 8, "epochs": 3}
    transfer.ring_transfer_accuracy(**half)
    monkeypatch.setattr(transfer, "QUICK", {"ring_transfer_accuracy": half | {"models": ("GCN", "k-hop GCN")}})
    monkeypatch.setattr(transfer, "ring_transfer_run", lambda **config: pytest.fail("a run was started"))
    arguments = ["run", "ring_transfer_accuracy", "--quick", "--finished", "--out", str(tmp_path)]
    assert main(arguments) == 0
    frame = records.results("ring_transfer_accuracy", tmp_path)
    assert list(frame.model) == ["GCN"] and records.provenance("ring_transfer_accuracy", tmp_path)["runs"]["number"] == 1
    assert main(["run", "lemma_3_1", "--finished"]) == 2
    assert "--finished is for experiments that are sweeps" in capsys.readouterr().err


def test_outside_the_block_a_sweep_runs_what_is_missing(tmp_path):
    with runner.finished_only():
        assert len(runner.sweep("later", add, [{"a": 1, "b": 2}], tmp_path)) == 0
    assert runner.sweep("later", add, [{"a": 1, "b": 2}], tmp_path)["sum"].item() == 3


def add(a, b):
    return {"sum": a + b}


def nested(b, folder):
    inner = sweep("inner", add, grid(a=[b, b + 10], b=[0]), folder)
    return {"total": int(inner["sum"].sum())}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_may_itself_sweep(tmp_path, jobs):
    """An inner choice of an option, say; it must neither wait for itself nor move the random numbers of the outer run."""
    frame = sweep("outer", nested, grid(b=[1, 2], folder=[str(tmp_path)]), tmp_path, jobs=jobs)
    assert list(frame.total) == [12, 14]
    torch.manual_seed(3)
    expected = torch.rand(2)

    def draws(seed):
        torch.manual_seed(seed)
        first = float(torch.rand(1))
        sweep("inner", add, grid(a=[seed], b=[5]), tmp_path)
        return {"first": first, "second": float(torch.rand(1))}

    row = sweep("draws", draws, [{"seed": 3}], tmp_path)
    assert row[["first", "second"]].to_numpy().tolist() == [pytest.approx(expected.tolist())]


def test_a_device_of_ones_own_is_a_name_or_none(tmp_path):
    def where(device=None):
        return {"given": str(device)}

    assert sweep("where", where, [{"device": None}, {"device": "cpu"}], tmp_path).given.tolist() == ["None", "cpu"]
    for given in ("phone", 1.5, ["cpu"]):
        with pytest.raises(ValueError, match=r"grid\[0\] must set 'device' to the name of a device, such as 'cpu', or None"):
            sweep("where", where, [{"device": given}], tmp_path)


# ------------------------------------------- going on from a record

def early(seed, width, epochs):
    """A result in the column of a parameter: how many epochs there were of those allowed."""
    return {"epochs": min(epochs, 3 + seed), "error": math.nan if seed == 1 else math.exp(-seed) / 3, "label": f"w{width}"}


EARLY = grid(width=(1.0, 2.0), seed=range(3), epochs=(4,))


def early_record(folder, config):
    with runner.collect_runs() as runs:
        frame = sweep("early", early, config, folder / "cache")
    records.record("early", frame, {"epochs": 4}, torch.device("cpu"), 1.0, folder, runs)
    return records.results("early", folder), records.provenance("early", folder)


def test_a_sweep_goes_on_from_a_record_of_another_machine(tmp_path):
    """What the record holds is not run again, what it lacks is, and the frame is that of a sweep done in one go."""
    whole = sweep("early", early, EARLY, tmp_path / "whole")
    frame, origin = early_record(tmp_path, EARLY[1:4])
    calls = []

    def counted(seed, width, epochs):
        calls.append((seed, width))
        return early(seed, width, epochs)

    with runner.continued(frame, origin), runner.collect_runs() as runs:
        continued = sweep("early", counted, EARLY, tmp_path / "new")
    assert calls == [(0, 1.0), (1, 2.0), (2, 2.0)]
    pd.testing.assert_frame_equal(continued.drop(columns="seconds"), whole.drop(columns="seconds"), rtol=1e-11)
    assert list(continued.seconds[1:4]) == list(frame.seconds)
    path = records.record("again", continued, {}, torch.device("cpu"), 1.0, tmp_path, runs)
    summary = records.provenance("again", tmp_path)["runs"]
    assert path.is_file() and summary["number"] == 6 and summary["commits"] == origin["runs"]["commits"]
    assert sweep("early", counted, EARLY, tmp_path / "new").equals(continued) and len(calls) == 3


@pytest.mark.parametrize(("change", "words"), [
    (lambda frame, origin: origin["versions"].update(torch="1.0"), ["record of early", "'torch': '1.0'", torch.__version__]),
    (lambda frame, origin: frame.pop("seconds"), ["row for each run", "lacks ['seconds']"]),
    (lambda frame, origin: frame.pop("seed"), ["row for each run", "lacks ['seed']"]),
    (lambda frame, origin: frame.__setitem__("seed", 0), ["row for each run"]),
    (lambda frame, origin: origin.pop("runs"), ["row for each run"]),
])
def test_a_record_whose_runs_do_not_count_is_refused(tmp_path, change, words):
    frame, origin = early_record(tmp_path, EARLY[:3])
    change(frame, origin)
    with runner.continued(frame, origin), pytest.raises(ValueError) as caught:
        sweep("early", lambda **config: pytest.fail("a run was started"), EARLY, tmp_path / "new")
    assert all(word in str(caught.value) for word in words) and not (tmp_path / "new").exists()


def test_runs_of_another_configuration_are_not_taken_over(tmp_path):
    """The column epochs says how many there were; how many were allowed stands in the provenance."""
    frame, origin = early_record(tmp_path, EARLY)
    with runner.continued(frame, origin), runner.finished_only():
        assert len(sweep("early", early, grid(width=(1.0,), seed=(0,), epochs=(3, 5)), tmp_path / "new")) == 0
        assert len(sweep("early", early, grid(width=(1.0, 3.0), seed=(0,), epochs=(4,)), tmp_path / "new")) == 1


def test_the_recorded_runs_of_the_main_experiment_can_be_continued(tmp_path, monkeypatch, capsys):
    """Versions may differ from those of the record; then the command says so. Else it gives the record back."""
    name = "graph_properties"
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path / "cache"))
    frame, origin = experiments.results(name), experiments.provenance(name) | {"versions": records.versions()}
    shutil.copy(records.results_dir() / f"{name}.csv", tmp_path)
    (tmp_path / f"{name}.json").write_text(json.dumps(origin))
    assert main(["run", name, "--continue", "--finished", "--out", str(tmp_path)]) == 0
    again, order = records.results(name, tmp_path), ["model", "target", "seed"]
    pd.testing.assert_frame_equal(again.sort_values(order, ignore_index=True),
                                  frame.sort_values(order, ignore_index=True), check_like=True, rtol=1e-11)
    now = records.provenance(name, tmp_path)["runs"]
    assert {key: now[key] for key in ("number", "commits", "dates")} == {
        key: origin["runs"][key] for key in ("number", "commits", "dates")}
    (tmp_path / f"{name}.json").write_text(json.dumps(origin | {"versions": records.versions() | {"torch": "1.0"}}))
    assert main(["run", name, "--continue", "--out", str(tmp_path)]) == 2
    assert "it was made with {'torch': '1.0'}" in capsys.readouterr().err
    assert main(["run", "lemma_3_1", "--continue"]) == 2
    assert "--continue is for experiments that are sweeps" in capsys.readouterr().err


def test_a_run_file_that_is_not_whole_is_moved_aside_when_a_record_is_continued(tmp_path):
    configs = grid(value=[1, 2, 3])
    with runner.collect_runs() as runs:
        frame = sweep("early", double, configs, tmp_path / "there")
    records.record("early", frame, {"values": 3}, torch.device("cpu"), 1.0, tmp_path, runs)
    path = run_path("early", configs[0], tmp_path / "here")
    path.parent.mkdir(parents=True)
    path.write_text('{"layout": 2, ')
    with runner.continued(records.results("early", tmp_path), records.provenance("early", tmp_path)):
        again = sweep("early", double, configs, tmp_path / "here")
    pd.testing.assert_frame_equal(again, frame, check_dtype=False)
    assert len(list(path.parent.glob("*.corrupt"))) == 1


def trained_briefly(seed, checkpoint=None):
    """Takes a checkpoint, and stops halfway as long as the file STOP lies beside it."""
    if checkpoint.with_name("STOP").exists():
        checkpoint.write_text("half")
        raise KeyboardInterrupt
    return {"value": seed}


def test_a_run_that_other_code_goes_on_with_names_both_commits(tmp_path, monkeypatch):
    path = run_path("kill", {"seed": 0}, tmp_path)
    path.parent.mkdir(parents=True)
    path.with_name("STOP").touch()
    monkeypatch.setattr(runner, "_loaded_commit", lambda: "a")
    with pytest.raises(KeyboardInterrupt):
        sweep("kill", trained_briefly, [{"seed": 0}], tmp_path)
    path.with_name("STOP").unlink()
    monkeypatch.setattr(runner, "_loaded_commit", lambda: "b")
    with runner.collect_runs() as runs:
        sweep("kill", trained_briefly, [{"seed": 0}, {"seed": 1}], tmp_path)
    assert [(run["commit"], run["resumed"]) for run in runs] == [(["a", "b"], True), ("b", False)]
    assert {file.suffix for file in path.parent.iterdir()} == {".json"}


def test_functions_of_a_notebook_are_refused_for_other_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(double, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "double", double, raising=False)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(TypeError, match="function must be defined at the top of a module"):
        sweep("notebook", double, [{"value": 1}], tmp_path, jobs=2)
    assert list(sweep("notebook", double, [{"value": 1}], tmp_path).doubled) == [2.0]


def test_waiting_for_a_run_held_elsewhere_starts_no_pool_again_and_again(tmp_path, monkeypatch):
    started = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, jobs, **options):
            started.append(jobs)
            super().__init__(jobs)

    monkeypatch.setattr(runner, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.05)
    path = run_path("held", {"value": 1}, tmp_path)
    path.parent.mkdir(parents=True)
    lock = FileLock(path.with_suffix(".lock"), thread_local=False)
    lock.acquire()
    release = threading.Timer(1.0, lock.release)
    release.start()
    assert list(sweep("held", double, [{"value": 1}], tmp_path, jobs=2).doubled) == [2.0]
    assert len(started) <= 3


@pytest.mark.parametrize("arguments", [["run", "lemma_3_1", "--seed", "3"], ["run", "lemma_3_1", "--fin"]])
def test_options_are_not_guessed_from_their_beginnings(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "unrecognized arguments" in capsys.readouterr().err


def test_a_run_of_fewer_seeds_does_not_replace_a_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
    records.record("lemma_3_1", pd.DataFrame({"x": [1, 2]}), {"seeds": [0, 1]}, torch.device("cpu"), 1.0, tmp_path)
    assert main(["run", "lemma_3_1", "--seeds", "1"]) == 2
    assert "has the seeds [0, 1]; a run without [1] is recorded only with --out" in capsys.readouterr().err
    assert len(records.results("lemma_3_1", tmp_path)) == 2


def test_a_run_of_other_seeds_does_not_replace_a_record_either(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
    records.record("second_seeds", pd.DataFrame({"x": [1]}), {"seeds": [1]}, torch.device("cpu"), 1.0, tmp_path)
    assert main(["run", "second_seeds", "--seeds", "1"]) == 2
    assert "has the seeds [1]; a run without [1]" in capsys.readouterr().err


def test_list_goes_on_where_runs_depend_on_a_record_that_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
    assert main(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "no results are recorded for 'table_4'" in lines["second_seeds"] and "theorem_5_1" in lines


def test_the_option_with_the_lowest_mean_score_is_chosen_in_each_group():
    frame = pd.DataFrame({"model": list("aaaabb"), "seed": [0, 1, 0, 1, 0, 0], "lr": [1, 1, 2, 2, 1, 2],
                          "loss": [0.0, 4.0, 1.0, 1.5, 3.0, 9.0]}, index=[5, 4, 3, 2, 1, 0])
    marked = runner.chosen(frame, ["model"], "lr", "loss")  # a: means 2 and 1.25, though lr 1 has the single best run
    assert list(marked) == [False, False, True, True, True, False] and list(marked.index) == list(frame.index)
    with pytest.raises(ValueError, match=r"frame must have the columns \['error'\]"):
        runner.chosen(frame, ["model"], "lr", "error")


def test_an_option_with_more_seeds_is_compared_on_the_seeds_that_all_options_have():
    frame = pd.DataFrame({"model": list("aaabb"), "seed": [0, 1, 0, 0, 1], "lr": [1, 1, 2, 1, 2], "loss": [1.0, 9.0, 2.0, 5.0, 4.0]})
    assert list(runner.chosen(frame, ["model"], "lr", "loss")) == [False, False, True, False, True]  # means 5 and 2
    paired = runner.chosen(frame, ["model"], "lr", "loss", paired="seed")
    assert list(paired) == [True, True, False, False, True]  # of a, seed 0 alone; the options of b share no seed
    with pytest.raises(ValueError, match=r"frame must have the columns \['draw'\]"):
        runner.chosen(frame, ["model"], "lr", "loss", paired="draw")


def test_a_missing_score_chooses_nothing_and_a_missing_name_is_a_group():
    frame = pd.DataFrame({"model": ["a", "a", None], "seed": [0, 0, 0], "lr": [1, 2, 1], "loss": [1.0, 2.0, 0.2]})
    assert list(runner.chosen(frame, ["model"], "lr", "loss", paired="seed")) == list(runner.chosen(frame, ["model"], "lr", "loss"))
    with pytest.raises(ValueError, match="score 'loss' must be a number in every row of frame; 1 are NaN"):
        runner.chosen(frame.assign(loss=[1.0, float("nan"), 0.2]), ["model"], "lr", "loss")


@pytest.mark.parametrize("name, of, score", [("ring_transfer_accuracy", ["model", "num_nodes"], "loss"),
                                             ("cora_depth", ["model", "depth"], "best_validation_loss")])
def test_the_records_mark_what_the_score_chooses(name, of, score):
    frame = experiments.results(name)
    assert (runner.chosen(frame, of, "lr", score) == frame.chosen).all()
