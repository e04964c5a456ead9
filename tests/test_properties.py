"""The graph-property data set: the graphs follow their description, the labels are the ones named, nothing is padded."""

import hashlib
import pickle
import tarfile
import time
import warnings

import networkx as nx
import numpy as np
import pytest
import scipy.stats
import torch
from torch_geometric.data import Batch

from gnnssm_lite import datasets, graphs
from gnnssm_lite.datasets import DataFileError, cache_dir, graph_properties, graph_property_batches, properties
from gnnssm_lite.datasets.properties import KINDS, LABELS, NODE_LABELS, SIZES

SEED = 20  # any but 1234, so that nothing here depends on the seed of the published numbers


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    """The module shares a cache of its own: each split is generated once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSSM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def train():
    return graph_property_batches("train", SEED)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Three graphs a size in a cache of their own."""
    monkeypatch.setenv("GNNSSM_CACHE", str(tmp_path))
    monkeypatch.setattr(properties, "GRAPHS_PER_SIZE", dict.fromkeys(properties.SPLITS, 3))


def tensors(batch):
    return [batch.x, batch.adjacency, batch.distance, batch.source, batch.kind, *(batch.labels[name] for name in LABELS)]


def digest(batches):
    return hashlib.sha256(b"".join(t.numpy().tobytes() for batch in batches for t in tensors(batch))).hexdigest()


def rng(*entropy):
    return np.random.default_rng(np.random.SeedSequence(entropy))


# ---------------------------------------------------------------- reproducible

KNOWN = {
    "train": "d22916d6d4ab27d6990d06803c0c8585afe077af67db7d4812801ea8670718b6",
    "validation": "e6ef7e34228dc3034a6ad96a052ff918888aae61f4f4b2e8a91ce0ac2066353e",
    "test": "0b6de35f5236ec693042e6c0f5bffe8e5620c60aca5bcb61993ffd855039b4e2",
}


@pytest.mark.parametrize("split", properties.SPLITS)
def test_a_seed_gives_the_same_graphs_bit_for_bit_everywhere(tiny, split):
    assert digest(graph_property_batches(split, 1234)) == KNOWN[split]


def test_seeds_and_splits_share_no_graphs():
    values = [
        {tuple(row) for batch in graph_property_batches(split, seed) for row in batch.x[:, :, 1].tolist()}
        for split, seed in (("train", SEED), ("validation", SEED), ("test", SEED), ("test", SEED + 1))
    ]
    assert len(set.union(*values)) == sum(map(len, values)) == 5120 + 640 + 2 * 1280


def test_generation_leaves_the_global_generators_alone_and_prints_nothing(tiny, capsys):
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    graph_property_batches("train", 5)
    assert torch.equal(torch.rand(1), expected[0]) and np.random.rand() == expected[1]
    assert capsys.readouterr() == ("", "")
    graph_property_batches("test", 5, progress=True)
    assert "test graphs" in capsys.readouterr().err


def test_all_graphs_of_a_seed_take_less_than_a_minute():
    start = time.process_time()
    for split in properties.SPLITS:
        properties._generate(split, SEED + 2)
    assert time.process_time() - start < 60


# ---------------------------------------------------------------- statistics

def test_splits_have_their_sizes():
    for split, sizes, count in (("train", range(25, 35), 512), ("validation", range(25, 30), 128), ("test", range(25, 30), 256)):
        batches = graph_property_batches(split, SEED)
        assert [batch.num_nodes for batch in batches] == list(sizes) == list(SIZES[split])
        assert {len(batch) for batch in batches} == {count}


FREQUENCIES = {
    "erdos_renyi": 0.2, "barabasi_albert": 0.2, "grid": 0.05, "caveman": 0.05, "tree": 0.15, "ladder": 0.05, "line": 0.05,
    "star": 0.05, "caterpillar": 0.1, "lobster": 0.1,
}


def test_kinds_and_sources_have_their_frequencies(train):
    kinds = torch.cat([batch.kind for batch in train])
    observed = torch.bincount(kinds, minlength=len(KINDS)).numpy()
    expected = len(kinds) * np.array([FREQUENCIES[name] for name in KINDS])
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3
    pooled = [scipy.stats.chisquare(torch.bincount(b.source, minlength=b.num_nodes).numpy()).pvalue for b in train]
    assert min(pooled) > 1e-4
    assert scipy.stats.kstest(torch.cat([batch.x[:, :, 1].flatten() for batch in train]).numpy(), "uniform").pvalue > 1e-3


def test_graphs_are_simple_without_isolated_nodes_and_a_seventh_is_disconnected(train):
    disconnected = []
    for batch in train:
        A = batch.adjacency
        assert torch.equal(A, A.mT) and set(A.unique().tolist()) == {0.0, 1.0}
        assert not A.diagonal(dim1=1, dim2=2).any() and (A.sum(2) > 0).all()
        disconnected.append((batch.distance < 0).flatten(1).any(1))
    assert 0.12 < float(torch.cat(disconnected).float().mean()) < 0.16


def test_constant_prediction_scores_are_those_of_the_public_generator():
    """The reference comes from an independent run of the public generator (seed 1234), scored on its test graphs."""
    scores = datasets.constant_scores("test", SEED)
    reference = {"laplacian": 0.917, "sssp": 1.086, "eccentricity": 1.507, "diameter": 1.712}
    assert {name: scores[name]["raw"] for name in reference} == pytest.approx(reference, abs=0.05)


def rows(batches, name):
    """The values of a label, a tensor ``(b, n)`` or ``(b, 1)`` a batch, in float64."""
    return [batch.labels[name].double().reshape(len(batch), -1) for batch in batches]


def error_of(constant, values):
    """Mean over graphs of the mean squared error in each graph."""
    return torch.cat([(value - constant).square().mean(1) for value in values]).mean()


@pytest.mark.parametrize("name", LABELS)
def test_both_scales_come_from_one_error_and_the_largest_training_label(train, name):
    maximum, scores = datasets.label_maximum(SEED)[name], datasets.constant_scores("test", SEED)[name]
    values, test = rows(train, name), rows(graph_property_batches("test", SEED), name)
    assert maximum == max(float(value.max()) for value in values)
    mean = torch.cat([value.mean(1) for value in values]).mean()
    assert scores["raw"] == pytest.approx(float(error_of(mean, test).log10()), abs=1e-9)
    normalised = error_of(mean / maximum, [value / maximum for value in test])
    assert scores["normalised"] == pytest.approx(float(normalised.log10()), abs=1e-9)
    errors = torch.cat([(value - mean).square().mean(1) for value in test])
    assert torch.allclose(datasets.constant_errors("test", SEED)[name], errors, rtol=1e-12)
    loader = torch.stack([errors[:512].mean(), errors[512:1024].mean(), errors[1024:].mean()]).mean()
    assert datasets.constant_scores("test", SEED, 512)[name]["raw"] == pytest.approx(float(loader.log10()), abs=1e-9)
    assert error_of(mean, values) < min(error_of(mean - 0.01, values), error_of(mean + 0.01, values)), "the best constant"


# ---------------------------------------------------------------- labels

def test_labels_are_those_of_networkx(train):
    compared = 0
    for batch in train:
        for i in range(0, len(batch), 10):
            G = nx.from_numpy_array(batch.adjacency[i].numpy())
            hops = dict(nx.all_pairs_shortest_path_length(G))
            farthest = [max(hops[u].values()) for u in G]
            source = int(batch.x[i, :, 0].nonzero())
            assert source == batch.source[i] and batch.x[i, source, 0] == 1
            assert batch.labels["sssp"][i].tolist() == [hops[source].get(u, 0) for u in G]
            assert batch.labels["eccentricity"][i].tolist() == farthest
            assert batch.labels["diameter"][i] == max(farthest)
            L = nx.laplacian_matrix(G, weight=None).toarray().astype(float)
            expected = L @ batch.x[i, :, 1].double().numpy()
            assert torch.equal(batch.labels["laplacian"][i], torch.from_numpy(expected).float())
            assert batch.distance[i].tolist() == [[hops[u].get(v, -1) for v in G] for u in G]
            compared += 1
    assert compared >= 500


def test_unreachable_nodes_have_distance_minus_one_and_label_zero(train):
    for batch in train:
        row = batch.distance[torch.arange(len(batch)), batch.source]
        assert torch.equal(batch.labels["sssp"] == 0, row <= 0)
        assert (batch.labels["eccentricity"] >= 1).all()
        connected = (batch.distance >= 0).flatten(1).all(1)
        assert torch.equal(batch.labels["eccentricity"][connected].amax(1), batch.labels["diameter"][connected])


# ---------------------------------------------------------------- kinds, before their edges are randomised

def built(kind, n, *entropy):
    A = properties._BUILD[kind](n, rng(*entropy, n))
    assert A.shape == (n, n) and A.dtype == bool and not (A & A.T).any(), "an edge stands once"
    return nx.from_numpy_array(properties._symmetric(A))


def without_leaves(G):
    """``G`` without its nodes of degree 1."""
    return G.subgraph([u for u in G if G.degree(u) > 1])


def is_path_or_empty(G):
    return len(G) < 2 or (nx.is_tree(G) and max(dict(G.degree()).values()) <= 2)


SQUAREST = {25: 5, 26: 2, 27: 3, 28: 4, 29: 1, 30: 5, 31: 1, 32: 4, 33: 3, 34: 2}


@pytest.mark.parametrize("n", SQUAREST)
def test_regular_kinds_are_the_named_graphs(n):
    rows = SQUAREST[n]
    assert nx.is_isomorphic(built("grid", n), nx.grid_2d_graph(rows, n // rows))
    assert nx.is_isomorphic(built("caveman", n), nx.caveman_graph(rows, n // rows))
    assert nx.is_isomorphic(built("line", n), nx.path_graph(n))
    assert nx.is_isomorphic(built("star", n), nx.star_graph(n - 1))
    ladder = nx.ladder_graph(n // 2)
    if n % 2:
        ladder.add_edge(0, n - 1)
    assert nx.is_isomorphic(built("ladder", n), ladder)


@pytest.mark.parametrize("kind", ["tree", "caterpillar", "lobster"])
def test_random_trees_are_caterpillars_or_lobsters(kind):
    peeled_once = []
    for i in range(200):
        G = built(kind, 25 + i % 10, i)
        assert nx.is_tree(G)
        peeled_once.append(is_path_or_empty(without_leaves(G)))
        assert is_path_or_empty(without_leaves(without_leaves(G)))
    # A lobster may happen to be a caterpillar; most are not.
    assert np.mean(peeled_once) < 0.7 if kind == "lobster" else all(peeled_once)


def test_backbones_are_uniform():
    n, sizes = 30, {"caterpillar": [], "lobster": []}
    for kind in sizes:
        for i in range(800):
            A = properties._BUILD[kind](n, rng(i))
            # The backbone is the run of nodes 0 - 1 - 2 ... ; a pendent node may prolong it, so at most one off.
            sizes[kind].append(1 + int(np.argmin(np.append(np.diag(A, 1), False))))
        assert scipy.stats.kstest(np.array(sizes[kind]) / n, "uniform").statistic < 0.1


def test_barabasi_albert_graphs_have_the_edges_and_hubs_of_networkx():
    ours, theirs = [], []
    for i in range(600):
        G = built("barabasi_albert", 25, i)
        assert nx.is_connected(G)
        assert G.number_of_edges() in {m * (25 - m) for m in range(1, 25)}
        ours.append(sorted(dict(G.degree()).values()))
        theirs.append(sorted(dict(nx.barabasi_albert_graph(25, 1 + i % 24, seed=i).degree()).values()))
    for place in (-1, -3, 12):
        pair = [np.array(degrees)[:, place] for degrees in (ours, theirs)]
        assert scipy.stats.ks_2samp(*pair).pvalue > 1e-3


def test_power_law_trees_have_the_degrees_of_networkx():
    ours = [np.sort([d for _, d in built("tree", 28, i).degree()]) for i in range(400)]
    theirs = [np.sort([d for _, d in nx.random_powerlaw_tree(28, seed=i, tries=10000).degree()]) for i in range(400)]
    for place in (-1, -2, -5):
        assert scipy.stats.ks_2samp(np.array(ours)[:, place], np.array(theirs)[:, place]).pvalue > 1e-3
    G = built("tree", 28, 0)
    assert nx.is_isomorphic(G, nx.degree_sequence_tree([d for _, d in G.degree()]))


def test_erdos_renyi_graphs_have_every_density_alike():
    density = [nx.density(built("erdos_renyi", 30, i)) for i in range(800)]
    assert scipy.stats.kstest(density, "uniform").pvalue > 1e-3


# ---------------------------------------------------------------- randomised edges

@pytest.mark.parametrize("name", ["line", "star", "half", "dense"])
def test_edges_stay_and_appear_with_the_probabilities_of_the_public_code(name):
    """The generator compares a triangular number with p and q, so an edge stays with 1 - 2 (1-p)^2, not with p."""
    n = 30
    A = {"line": properties._line(n), "star": properties._star(n, None), "half": np.tri(n, n, -1, dtype=bool) & (np.add.outer(range(n), range(n)) % 2 == 0),
         "dense": np.triu(np.add.outer(range(n), range(n)) % 5 > 0, 1)}[name]
    A = properties._symmetric(A)
    e = A.sum() / 2
    r = n * (n - 1) / 2 - e
    p, q = (0.9, 0.1 * e / r) if e <= r else (0.9 + 0.1 * (e - r) / e, 0.1)
    pairs, trials, stayed, appeared = np.triu_indices(n, 1), 3000, 0, 0
    generator = rng(7)
    for _ in range(trials):
        B = properties._randomized(A, generator)
        assert B.dtype == bool and (B == B.T).all() and not B.diagonal().any()
        stayed += (A & B)[pairs].sum()
        appeared += (~A & B)[pairs].sum()
    for seen, count, probability in ((stayed, e, 1 - 2 * (1 - p) ** 2), (appeared, r, 2 * q**2)):
        sigma = np.sqrt(trials * count * probability * (1 - probability))
        assert abs(seen - trials * count * probability) < 4.5 * sigma


def test_a_complete_graph_is_left_alone():
    A = ~np.eye(29, dtype=bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (properties._randomized(A, rng(1)) == A).all()


# ---------------------------------------------------------------- two forms of the same data

def test_data_and_dense_batches_hold_the_same_numbers():
    batches = graph_property_batches("validation", SEED)
    listed = graph_properties("validation", SEED)
    assert len(listed) == sum(map(len, batches)) == 640
    places = [(batch, i) for batch in batches for i in range(len(batch))]
    for data, (batch, i) in zip(listed, places, strict=True):
        assert torch.equal(data.x, batch.x[i]) and data.x.dtype == torch.float32
        A = torch.zeros_like(batch.adjacency[i])
        A[data.edge_index[0], data.edge_index[1]] = 1
        assert torch.equal(A, batch.adjacency[i]) and data.edge_index.shape[1] == A.sum()
        assert all(torch.equal(data[name], batch.labels[name][i]) for name in NODE_LABELS)
        assert [data.diameter.item(), data.source.item(), data.kind.item()] == [batch.labels["diameter"][i], batch.source[i], batch.kind[i]]
        assert data.validate() and data.is_undirected() and not data.has_isolated_nodes()
    joined = Batch.from_data_list(listed[:200])
    assert joined.kind.shape == joined.diameter.shape == (200,) and joined.sssp.shape == (joined.num_nodes,)


def test_batches_split_and_move_without_changing_a_number():
    whole = graph_property_batches("test", SEED)
    parts = graph_property_batches("test", SEED, batch_size=100)
    assert [len(part) for part in parts[:3]] == [100, 100, 56]
    assert digest(parts[:1]) == digest([whole[0][:100]]) != digest([whole[0][1:101]])
    for group, (first, *rest) in zip(whole, zip(*[iter(parts)] * 3, strict=True), strict=True):
        for name in LABELS:
            assert torch.equal(torch.cat([part.labels[name] for part in (first, *rest)]), group.labels[name])
    moved = whole[0].to("meta")
    assert {t.device.type for t in tensors(moved)} == {"meta"}
    assert digest([whole[0].to("cpu")]) == digest(whole[:1])


# ---------------------------------------------------------------- cache and bad input

def test_graphs_are_generated_once_and_a_damaged_file_is_built_again(tiny, monkeypatch):
    first = digest(graph_property_batches("train", 3))
    (file,) = cache_dir().glob("generated/graph-properties-*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(properties, "_generate", lambda *args: pytest.fail("generated twice"))
        assert digest(graph_property_batches("train", 3)) == first
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="built again"):
        assert digest(graph_property_batches("train", 3)) == first
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert digest(graph_property_batches("train", 3)) == first


@pytest.mark.parametrize("function", [graph_properties, graph_property_batches])
@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"split": "val"}, ValueError, ["split", "'validation'", "'val'"]),
    ({"split": 1}, ValueError, ["split", "'train'", "1"]),
    ({"seed": -1}, ValueError, ["seed", "-1"]),
    ({"seed": 2**32}, ValueError, ["seed", str(2**32)]),
    ({"seed": 1.5}, TypeError, ["seed", "1.5", "int"]),
    ({"seed": True}, TypeError, ["seed", "True"]),
    ({"progress": 1}, TypeError, ["progress", "1"]),
])
def test_bad_arguments_are_named(function, arguments, error, words):
    with pytest.raises(error) as caught:
        function(**arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("function", [graph_property_batches, datasets.constant_scores])
def test_a_bad_batch_size_is_named(function):
    with pytest.raises(ValueError, match="batch_size must be at least 1; it was 0"):
        function("test", SEED, batch_size=0)


# ---------------------------------------------------------------- the released file

@pytest.fixture
def released(tmp_path):
    """A file in the form of the released one, with columns in the order in which the public generator writes them."""
    parts = {"adjacency": {}, "x": {}, "node": {}, "graph": {}}
    for split, name in properties.RELEASED_SPLITS.items():
        groups = graph_property_batches(split, SEED, batch_size=20)[:3]
        parts["adjacency"][name] = [batch.adjacency.clone() for batch in groups]
        parts["x"][name] = [batch.x.clone() for batch in groups]
        parts["node"][name] = [torch.stack([batch.labels[label] for label in NODE_LABELS], 2) for batch in groups]
        parts["graph"][name] = [torch.stack([torch.ones(len(b)), b.labels["diameter"], torch.ones(len(b))], 1) for b in groups]
    path = tmp_path / properties.RELEASED
    torch.save(tuple(parts.values()), path)
    return path


def test_the_columns_of_the_released_file_are_told_from_its_graphs(released, tmp_path):
    table = datasets.released_columns(released)
    assert len(table) == 3 * 3 + 3
    same = table[table.difference < 1e-4]
    assert list(zip(same.level, same.column, same.label, strict=True)) == [
        ("node", 0, "sssp"), ("node", 1, "eccentricity"), ("node", 2, "laplacian"), ("graph", 1, "diameter"),
    ]
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as archive:
        archive.add(released, f"data/{released.name}")
    assert datasets.released_columns(tmp_path / "data.tar.gz").equals(table)


def test_the_released_graphs_load_as_batches(released):
    loaded = datasets.load_released(released)
    for split, batches in loaded.items():
        for batch, known in zip(batches, graph_property_batches(split, SEED, batch_size=20)[:3], strict=True):
            assert all(torch.equal(batch.labels[name], known.labels[name]) for name in LABELS)
            assert torch.equal(batch.x, known.x) and torch.equal(batch.source, known.source) and (batch.kind == -1).all()


def changed(path, change):
    parts = torch.load(path, weights_only=True)
    change(*parts)
    torch.save(parts, path)
    return path


def test_a_column_with_nan_holds_no_label(released):
    def change(adjacency, x, node, graph):
        node["train"][0][0, 0, 0] = torch.nan
    table = datasets.released_columns(changed(released, change))
    assert (table.difference[table.level.eq("node") & table.column.eq(0)] == torch.inf).all()
    assert set(table.label[table.difference < 1e-4]) == {"eccentricity", "laplacian", "diameter"}


@pytest.mark.parametrize(("part", "value", "message"), [
    (0, lambda A: 0.5 * A, "symmetric, 0 or 1"), (0, lambda A: A.triu(), "symmetric, 0 or 1"), (0, lambda A: A + torch.eye(25), "diagonal"),
    (0, lambda A: A[:, :-1, :-1], "shapes"), (2, lambda y: y[:, :-1], "shapes"), (3, lambda y: y[:1], "shapes"), (1, lambda x: x * torch.nan, "finite"), (1, lambda x: x * 0, "1 at one node")])
def test_released_graphs_that_are_none_are_refused(released, part, value, message):
    def change(*parts):
        parts[part]["train"][0] = value(parts[part]["train"][0])
    with pytest.raises(DataFileError, match=message):
        datasets.load_released(changed(released, change))


def test_one_graph_of_a_batch_is_taken_by_a_slice(released):
    batch = datasets.load_released(released)["test"][0]
    assert len(batch[:1]) == 1 and batch[torch.tensor([3])].x.equal(batch.x[3:4])
    for index in (0, torch.tensor(0)):
        with pytest.raises(TypeError, match="graphs must be a slice or a tensor of indices"):
            batch[index]


class Trap:
    def __reduce__(self):
        return pytest.fail, ("code in the file was run",)


def test_a_file_that_would_run_code_or_has_another_form_is_refused(tmp_path):
    path = tmp_path / properties.RELEASED
    for content in (pickle.dumps(Trap()), b"", b"no pickle"):
        path.write_bytes(content)
        with pytest.raises(DataFileError, match="plain tensors only"):
            datasets.released_columns(path)
    for content in (Trap(), torch.ones(3), ({}, {}, {}, {}), [1, 2, 3, 4]):
        torch.save(content, path)
        with pytest.raises(DataFileError, match="plain tensors only"):
            datasets.load_released(path)
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz"):
        pass
    with pytest.raises(DataFileError, match=f"no {properties.RELEASED}"):
        datasets.load_released(tmp_path / "data.tar.gz")
    with pytest.raises(FileNotFoundError):
        datasets.load_released(tmp_path / "absent.pkl")


# ---------------------------------------------------------------- a floor

@pytest.mark.parametrize("reach", [0, 1, 2, 5])
def test_the_floor_is_the_error_of_whoever_learns_by_heart_what_a_node_can_see(reach):
    """Mean over nodes and sources of the squared error of the best table: what a node sees -> one answer."""
    for batch in graph_property_batches("test", SEED)[:2]:
        floors = datasets.sssp_floor(batch.distance[:20], reach)
        for hops, floor in zip(batch.distance[:20].tolist(), floors, strict=True):
            n, error = len(hops), 0.0
            for row in hops:
                unseen = [max(d, 0) for d in row if d > reach or d < 0]
                error += sum((label - np.mean(unseen)) ** 2 for label in unseen) / n**2 if unseen else 0.0
            assert float(floor) == pytest.approx(error, abs=1e-12)


def test_the_floor_falls_with_reach_to_zero_and_is_that_of_a_ring():
    hops = graph_property_batches("test", SEED)[0].distance
    floors = torch.stack([datasets.sssp_floor(hops, reach).mean() for reach in range(26)])
    assert (floors.diff() <= 1e-12).all() and floors[0] > 1
    connected = hops[(hops >= 0).all(-1).all(-1)]
    assert float(datasets.sssp_floor(connected, 25).max()) == 0
    m, reach = 8, 3
    k, n = m - reach, 2 * m + 1
    ring = graphs.shortest_path_lengths(graphs.ring(n), n)
    assert float(datasets.sssp_floor(ring, reach)) == pytest.approx(k * (k**2 - 1) / (6 * n))
    without = hops[~(hops >= 0).all(-1).all(-1)]
    infinite = torch.where(without < 0, torch.inf, without.double())
    assert torch.equal(datasets.sssp_floor(infinite, reach), datasets.sssp_floor(without, reach))


def test_by_source_the_floor_is_what_its_network_makes_of_each_source():
    """On a path of four nodes, reach 1: nodes 0 and 3 cannot tell two sources apart, so they answer 2.5; 1 and 2 answer 2."""
    hops = graphs.shortest_path_lengths(graphs.path(4), 4)
    assert torch.equal(datasets.sssp_floor(hops, 1, by_source=True), torch.tensor([1 / 4, 1 / 4, 1 / 4, 1 / 4]).double() / 4)
    for batch in graph_property_batches("test", SEED)[:2]:
        each = datasets.sssp_floor(batch.distance, 3, by_source=True)
        assert each.shape == batch.distance.shape[:2]
        assert torch.allclose(each.mean(-1), datasets.sssp_floor(batch.distance, 3), rtol=1e-14, atol=0)


@pytest.mark.parametrize("distance, reach, error, words", [
    (torch.zeros(3, 3, dtype=torch.complex64), 1, TypeError, "distance must be a real tensor"),
    (torch.full((3, 3), torch.nan), 1, ValueError, "NaN"),
    ([[0]], 1, TypeError, "distance"),
    (torch.zeros(3, 4, dtype=torch.long), 1, ValueError, "shape"),
    (torch.zeros(3, 3, dtype=torch.long), -1, ValueError, "reach must be at least 0"),
])
def test_the_floor_refuses_what_is_no_distance(distance, reach, error, words):
    with pytest.raises(error, match=words):
        datasets.sssp_floor(distance, reach)
