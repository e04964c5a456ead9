"""GNN-SSM: its equation, Proposition 3.3, its spectrum, and the state matrices."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv, GCNConv

from gnnssm_lite import graphs, jacobian
from gnnssm_lite.models import (
    GAT,
    GCN,
    GIN,
    GNNSSM,
    GatedGCN,
    GraphSAGE,
    haar_orthogonal,
    recurrent_step,
    state_matrix,
)
from gnnssm_lite.models.recurrence import STATE_MATRICES

FLOAT64 = torch.float64
COUPLINGS = {
    "gcn": lambda d: GCN(d, d, "tanh"), "gat": lambda d: GAT(d, d, "tanh"), "sage": lambda d: GraphSAGE(d, d, "tanh"),
    "gin": lambda d: GIN(d, d), "gated": lambda d: GatedGCN(d, d, "tanh"),
    "pyg_gcn": lambda d: GCNConv(d, d), "pyg_gat": lambda d: GATConv(d, d), "pyg_tanh": lambda d: Tanh(GCNConv(d, d)),
}


class Tanh(nn.Module):
    """A torch-geometric convolution with an activation after it."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, h, edge_index):
        return torch.tanh(self.conv(h, edge_index))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=FLOAT64)


def norm(matrix):
    return float(torch.linalg.matrix_norm(matrix, 2))


def graph_for(name, edge_index, n, layout="dense"):
    if name.startswith("pyg"):
        return edge_index
    return graphs.operator(COUPLINGS[name](2).operator, edge_index, n, layout, FLOAT64)


def coupling_for(name, d, seed):
    """A coupling with random weights of a scale that differs from draw to draw."""
    made = COUPLINGS[name](d).double()
    for i, parameter in enumerate(made.parameters()):
        if parameter.requires_grad:
            parameter.data = random(*parameter.shape, seed=100 * seed + i) * (0.1 + seed % 5)
    return made


# ---------------------------------------------------------------- Eq. (9)

@pytest.mark.parametrize("name", COUPLINGS)
def test_eq_9_one_step(name, graph):
    """H' = H Λ + F(H, A) B around every coupling, torch-geometric's too."""
    edge_index, n = graph
    coupling, h = coupling_for(name, 4, 1), random(n, 4)
    Lambda, B, S = random(4, 4, seed=1), random(4, 4, seed=2), graph_for(name, edge_index, n)
    torch.testing.assert_close(GNNSSM(coupling, Lambda, B)(h, S), h @ Lambda + coupling(h, S) @ B)
    torch.testing.assert_close(GNNSSM(coupling, Lambda)(h, S), h @ Lambda + coupling(h, S))
    assert torch.equal(GNNSSM(None, Lambda)(h, S), h @ Lambda)


def test_input_matrix_may_change_the_width(grid_graph):
    coupling, B = GCN(4, 7, "tanh").double(), random(7, 4)
    h, S = random(12, 4), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    assert GNNSSM(coupling, state_matrix(4, dtype=FLOAT64), B)(h, S).shape == (12, 4)


def test_coupling_of_another_shape_is_not_broadcast():
    h = random(5, 3)
    for coupling in (lambda h: h[:, :1], lambda h: h[:1], lambda h: h.sum()):
        with pytest.raises(ValueError, match=r"coupling must return shape \(5, 3\); it returned"):
            GNNSSM(coupling, torch.eye(3, dtype=FLOAT64))(h)


def test_arguments_by_name_reach_the_coupling(grid_graph):
    edge_index, n = grid_graph
    h, weight = random(n, 4), random(edge_index.shape[1]).abs()
    layer = GNNSSM(GCNConv(4, 4).double(), state_matrix(4, dtype=FLOAT64))
    by_name = layer(h, edge_index, edge_weight=weight)
    assert torch.equal(by_name, layer(h, edge_index, weight)) and not torch.equal(by_name, layer(h, edge_index))
    torch.testing.assert_close(by_name, h @ layer.Lambda + layer.coupling(h, edge_index, weight))
    assert torch.equal(GNNSSM(None, layer.Lambda)(h, edge_index, edge_weight=weight), h @ layer.Lambda)
    with pytest.raises(TypeError, match="edge_wieght"):
        layer(h, edge_index, edge_wieght=weight)


def test_a_coupling_that_returns_no_features_is_named(grid_graph):
    edge_index, n = grid_graph
    layer = GNNSSM(GATConv(4, 4), state_matrix(4))
    with pytest.raises(TypeError, match="coupling must return a tensor of features; it returned tuple"):
        layer(torch.randn(n, 4), edge_index, None, None, True)  # asks for the attention weights, too


def test_a_coupling_that_returns_another_dtype_is_named():
    for B in (None, torch.eye(3, dtype=FLOAT64)):
        layer = GNNSSM(lambda h: h.float(), torch.eye(3, dtype=FLOAT64), B)
        with pytest.raises(TypeError, match=r"coupling must return the dtype of state_matrix \(torch.float64\); it returned "
                                            "torch.float32"):
            layer(random(5, 3))


def test_autocast_chooses_the_dtypes_of_a_step(grid_graph):
    edge_index, n = grid_graph
    layer, h = GNNSSM(Tanh(GCNConv(4, 4)), state_matrix(4), torch.eye(4)), torch.randn(n, 4)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(h, edge_index)
    assert torch.allclose(low.float(), layer(h, edge_index), atol=0.1)


def test_a_class_is_no_coupling():
    with pytest.raises(TypeError, match="coupling must be a layer .* it was the class GCNConv"):
        GNNSSM(GCNConv, state_matrix(4))


def test_batched_features(grid_graph):
    layer = GNNSSM(GCN(4, 4, "tanh").double(), state_matrix(4, dtype=FLOAT64))
    h, S = random(3, 12, 4), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    torch.testing.assert_close(layer(h, S), torch.stack([layer(x, S) for x in h]))


# ---------------------------------------------------------------- Proposition 3.3

@pytest.mark.parametrize("name", COUPLINGS)
def test_proposition_3_3_jacobian_is_exact(name, grid_graph):
    """J = Λᵀ ⊗ I + (Bᵀ ⊗ I) J_F, entry by entry, for couplings that are not linear."""
    edge_index, n = grid_graph
    coupling, h, S = coupling_for(name, 3, 1), random(n, 3), graph_for(name, edge_index, n)
    Lambda, B, eye = random(3, 3, seed=1), random(3, 3, seed=2), torch.eye(n, dtype=FLOAT64)
    J = jacobian.layer_jacobian(GNNSSM(coupling, Lambda, B), h, S)
    J_F = jacobian.layer_jacobian(coupling, h, S)
    expected = torch.kron(Lambda.T.contiguous(), eye) + torch.kron(B.T.contiguous(), eye) @ J_F
    torch.testing.assert_close(J, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", COUPLINGS)
def test_proposition_3_3_bound(name):
    """‖J‖₂ ≤ ‖Λ‖₂ + ‖B‖₂ ‖J_F‖₂: 8 draws for each of 8 couplings, of widely different scales."""
    for seed in range(8):
        n = 6 + seed
        edge_index = graphs.erdos_renyi(n, 0.3, seed)
        coupling, h, S = coupling_for(name, 3, seed), random(n, 3, seed=seed), graph_for(name, edge_index, n)
        Lambda = state_matrix(3, 0.2 + seed / 4, STATE_MATRICES[seed % 5], generator(seed), FLOAT64)
        B = random(3, 3, seed=seed + 50) / (1 + seed)
        J = jacobian.layer_jacobian(GNNSSM(coupling, Lambda, B), h, S)
        J_F = jacobian.layer_jacobian(coupling, h, S)
        assert norm(J) <= (norm(Lambda) + norm(B) * norm(J_F)) * (1 + 1e-12)


def test_proposition_3_3_bound_is_attained(grid_graph):
    """Λ = c I, B = b I and a linear GCN with W = w I: ‖J‖ = c + b w, because Â has the eigenvalue 1."""
    c, b, w = 0.9, 0.5, 0.7
    coupling = GCN(3, 3, None).double()
    coupling.weight.data = w * torch.eye(3, dtype=FLOAT64)
    layer = GNNSSM(coupling, state_matrix(3, c, "identity", dtype=FLOAT64), b * torch.eye(3, dtype=FLOAT64))
    h, S = random(12, 3), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    assert norm(jacobian.layer_jacobian(layer, h, S)) == pytest.approx(c + b * w, rel=1e-12)
    assert jacobian.spectral_norm(layer, h, S, tol=1e-12) == pytest.approx(c + b * w, rel=1e-10)


@pytest.mark.parametrize("c", [0.9, 1.0])
def test_equal_eigenvalues_do_not_bound_the_norm(c):
    """Counterexample: Λ = c I + N, N strictly upper triangular. Every eigenvalue is c, ‖Λ‖₂ is above 20."""
    Lambda = c * torch.eye(4, dtype=FLOAT64) + 10 * torch.triu(torch.ones(4, 4, dtype=FLOAT64), 1)
    layer, h = GNNSSM(None, Lambda), random(5, 4)
    assert torch.equal(Lambda.diagonal(), torch.full((4,), c, dtype=FLOAT64))  # triangular: these are the eigenvalues
    assert norm(Lambda) > 20
    assert norm(jacobian.layer_jacobian(layer, h)) == pytest.approx(norm(Lambda))
    grown = torch.linalg.matrix_power(Lambda, 3)
    assert norm(grown) > 1000  # and the product of three such layers


def test_a_diagonalisable_matrix_with_equal_eigenvalues_is_a_multiple_of_the_identity():
    """V (c I) V⁻¹ = c I for any V: keeping the eigenvectors of a random matrix changes nothing."""
    for seed in range(5):
        V = torch.linalg.eig(state_matrix(30, kind="uniform", generator=generator(seed), dtype=FLOAT64)).eigenvectors
        rebuilt = V @ torch.diag(torch.full((30,), 0.9, dtype=V.dtype)) @ torch.linalg.inv(V)
        torch.testing.assert_close(rebuilt.real, 0.9 * torch.eye(30, dtype=FLOAT64), rtol=0, atol=1e-10)
        assert rebuilt.imag.abs().max() < 1e-10


def test_identity_state_matrix_is_a_scaled_residual_connection(grid_graph):
    coupling, h = GCN(4, 4, "tanh").double(), random(12, 4)
    S = graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    layer = GNNSSM(coupling, state_matrix(4, 0.8, "identity", dtype=FLOAT64))
    torch.testing.assert_close(layer(h, S), 0.8 * h + coupling(h, S))


# ---------------------------------------------------------------- spectrum of a linear GNN-SSM

LINEAR = {
    "gcn": lambda d: GCN(d, d, None), "gcn_bias": lambda d: GCN(d, d, None, bias=True), "sage": lambda d: GraphSAGE(d, d, None),
    "gin": lambda d: GIN(d, d, None, mlp=nn.Linear(d, d), epsilon=0.3), "pyg_gcn": lambda d: GCNConv(d, d),
    "none": lambda d: None,
}


@pytest.mark.parametrize("kind", STATE_MATRICES)
@pytest.mark.parametrize("name", LINEAR)
def test_kronecker_spectrum_equals_dense(name, kind, graph):
    """Singular values and eigenvalues from the blocks Λ + λ_i W B = those of the dense Jacobian."""
    edge_index, n = graph
    coupling = LINEAR[name](3)
    coupling = None if coupling is None else coupling.double()
    operand = edge_index if name.startswith("pyg") else graphs.normalized_adjacency(edge_index, n, "sparse", FLOAT64)
    layer = GNNSSM(coupling, state_matrix(3, 0.9, kind, generator(1), FLOAT64), random(3, 3, seed=2))
    h = random(n, 3)
    J = jacobian.layer_jacobian(layer, h, operand)
    dense = torch.linalg.svdvals(J)
    fast = jacobian.singular_values(layer, h, operand, method="kronecker")
    assert fast.shape == dense.shape
    assert (fast - dense).abs().max() <= 1e-10 * dense.max()
    expected = torch.linalg.eigvals(J)
    found = jacobian.eigenvalues(layer, h, operand, method="kronecker")
    assert found.shape == (3 * n,)
    for k in (1, 2, 3):  # power sums tell whether two multisets of eigenvalues agree without sorting complex numbers
        torch.testing.assert_close((found ** k).sum(), (expected ** k).sum(), rtol=1e-9, atol=1e-9)
    assert (found[:-1].abs() >= found[1:].abs() - 1e-12).all()


def test_asymmetric_operator_keeps_eigenvalues_but_not_singular_values(grid_graph):
    """D⁻¹A is not symmetric: eigenvalues still come from the blocks, singular values need the dense way."""
    layer = GNNSSM(GraphSAGE(3, 3, None).double(), state_matrix(3, dtype=FLOAT64, generator=generator(0)))
    h, S = random(12, 3), graphs.mean_adjacency(*grid_graph, dtype=FLOAT64)
    J = jacobian.layer_jacobian(layer, h, S)
    found = jacobian.eigenvalues(layer, h, S, method="kronecker")
    for k in (1, 2, 3):
        torch.testing.assert_close((found ** k).sum(), (torch.linalg.eigvals(J) ** k).sum(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(jacobian.singular_values(layer, h, S), torch.linalg.svdvals(J), rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="symmetric S"):
        jacobian.singular_values(layer, h, S, method="kronecker")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_layer_that_is_not_linear_has_no_kronecker_terms(activation, grid_graph):
    layer = GNNSSM(GCN(3, 3, activation).double(), state_matrix(3, dtype=FLOAT64))
    assert jacobian.kronecker_terms(layer) is None
    with pytest.raises(ValueError, match="method 'kronecker' needs a linear layer"):
        jacobian.singular_values(layer, random(12, 3), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64),
                                 method="kronecker")


# ---------------------------------------------------------------- as a module

def test_lambda_and_b_are_buffers_and_only_the_coupling_is_trained():
    layer = GNNSSM(GCN(3, 3, "tanh"), state_matrix(3), torch.eye(3))
    assert [name for name, _ in layer.named_parameters()] == ["coupling.weight"]
    assert sorted(name for name, _ in layer.named_buffers()) == ["B", "Lambda"]
    assert layer.double().Lambda.dtype == layer.B.dtype == FLOAT64


def test_state_dict_restores_lambda_and_b():
    first = GNNSSM(GCN(3, 3), state_matrix(3, generator=generator(0)), random(3, 3, seed=1).float())
    second = GNNSSM(GCN(3, 3), state_matrix(3, generator=generator(1)), torch.eye(3))
    second.load_state_dict(first.state_dict())
    h, S = torch.ones(4, 3), graphs.normalized_adjacency(graphs.path(4), 4)
    assert torch.equal(first(h, S), second(h, S))


def test_the_given_matrix_stays_the_callers():
    Lambda = state_matrix(3, dtype=FLOAT64)
    before = Lambda.clone()
    layer, other = GNNSSM(None, Lambda, Lambda), GNNSSM(None, Lambda, Lambda)
    layer.Lambda.zero_()
    layer.B.zero_()
    assert torch.equal(Lambda, before) and torch.equal(other.Lambda, before) and torch.equal(other.B, before)
    Lambda.zero_()
    assert torch.equal(other.Lambda, before) and torch.equal(other.B, before)


def test_runs_on_the_device_of_its_inputs():
    layer = GNNSSM(GCN(4, 4, "tanh"), state_matrix(4), torch.eye(4)).to("meta")
    out = layer(torch.empty(7, 4, device="meta"), torch.empty(7, 7, device="meta"))
    assert out.device.type == "meta" and out.shape == (7, 4)
    terms = GNNSSM(GCN(4, 4, None), state_matrix(4)).to("meta").kronecker_terms()
    assert {matrix.device.type for matrix in terms.values()} == {"meta"}


def test_gradcheck_through_the_state_space_model(grid_graph):
    layer = GNNSSM(GCN(3, 3, "tanh").double(), random(3, 3), random(3, 3, seed=1))
    S = graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    assert torch.autograd.gradcheck(lambda h: layer(h, S), random(12, 3).requires_grad_(True))


# ---------------------------------------------------------------- state matrices

@pytest.mark.parametrize("dim", [1, 2, 7, 30])
@pytest.mark.parametrize("eig", [0.0, 0.5, 1.0])
def test_state_matrices_with_a_controlled_spectrum(dim, eig):
    """orthogonal: |eig| = eig = ‖Λ‖₂. identity: all eig. spread: normal, moduli evenly spaced up to eig."""
    made = {kind: state_matrix(dim, eig, kind, generator(0), FLOAT64) for kind in ("orthogonal", "identity", "spread")}
    moduli = {kind: np.sort(np.abs(np.linalg.eigvals(matrix.numpy()))) for kind, matrix in made.items()}
    assert np.allclose(moduli["orthogonal"], eig, atol=1e-12)
    assert torch.allclose(made["orthogonal"] @ made["orthogonal"].T, eig ** 2 * torch.eye(dim, dtype=FLOAT64), atol=1e-12)
    assert torch.equal(made["identity"], eig * torch.eye(dim, dtype=FLOAT64))
    pairs = (dim + 1) // 2
    expected = np.repeat(np.arange(1, pairs + 1) / pairs * eig, 2)
    assert np.allclose(moduli["spread"], expected[:-1] if dim % 2 else expected, atol=1e-10)
    spread = made["spread"]
    assert torch.allclose(spread @ spread.T, spread.T @ spread, atol=1e-12)
    assert norm(spread) == pytest.approx(eig, abs=1e-12)  # a normal matrix: norm = spectral radius


def test_state_matrices_without_control():
    """gaussian: radius near eig and norm near 2 eig. uniform: radius near eig/√3."""
    d, eig = 400, 0.7
    gaussian, uniform = (state_matrix(d, eig, kind, generator(0), FLOAT64) for kind in ("gaussian", "uniform"))
    assert float(torch.linalg.eigvals(gaussian).abs().max()) == pytest.approx(eig, rel=0.08)
    assert norm(gaussian) == pytest.approx(2 * eig, rel=0.05)
    assert float(torch.linalg.eigvals(uniform).abs().max()) == pytest.approx(eig / math.sqrt(3), rel=0.08)
    assert uniform.abs().max() <= eig / math.sqrt(d)


def test_haar_orthogonal_has_the_moments_of_the_haar_measure():
    """E[tr Q] = 0, E[(tr Q)²] = 1, E[Q_11] = 0, E[Q_11⁴] = 3/(d(d+2)); plain QR has a diagonal of one sign."""
    d, draws = 4, 4000
    gen = generator(0)
    Q = torch.stack([haar_orthogonal(d, gen) for _ in range(draws)])
    trace, first = Q.diagonal(dim1=1, dim2=2).sum(1), Q[:, 0, 0]
    laws = ((trace, 0), (trace ** 2, 1), (first, 0), (first ** 2, 1 / d), (first ** 4, 3 / (d * (d + 2))),
            (torch.linalg.det(Q), 0))
    for sample, mean in laws:
        assert abs(float(sample.mean()) - mean) <= 4 * float(sample.std()) / math.sqrt(draws)


def test_state_matrix_repeats_with_its_generator_and_leaves_the_global_one():
    for kind in STATE_MATRICES:
        before = torch.get_rng_state()
        first, second = (state_matrix(5, 1.0, kind, generator(3)) for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(torch.get_rng_state(), before)
        assert first.dtype == torch.float32 and state_matrix(5, kind=kind, dtype=FLOAT64).dtype == FLOAT64


# ---------------------------------------------------------------- Eq. (4)

def test_eq_4_recurrent_network_is_message_passing_on_a_directed_path():
    """Unrolled over K steps: node k holds h^{(k)}, hears node k - 1 through W and itself through U x."""
    K, d, p = 6, 3, 2
    W, U, x = random(d, d, seed=1), random(d, p, seed=2), random(K, p, seed=3)
    h, states = torch.zeros(d, dtype=FLOAT64), []
    for k in range(K):
        h = recurrent_step(h, x[k], W, U)
        states.append(h)
    shift = torch.diag(torch.ones(K - 1, dtype=FLOAT64), -1)  # A_{k, k-1} = 1
    H = torch.zeros(K, d, dtype=FLOAT64)
    for _ in range(K):
        H = torch.tanh(shift @ H @ W.T + x @ U.T)
    torch.testing.assert_close(H, torch.stack(states))


def test_eq_4_equals_torchs_recurrent_cell():
    cell = nn.RNNCell(2, 3, bias=False, dtype=FLOAT64)
    h, x = random(5, 3), random(5, 2, seed=1)
    torch.testing.assert_close(recurrent_step(h, x, cell.weight_hh, cell.weight_ih), cell(x, h))
