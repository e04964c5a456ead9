"""Theorem 3.2 and the closed forms of random-matrix theory, against samples and against numerical integration."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest, wasserstein_distance

from gnnssm_lite import graphs, jacobian, spectra
from gnnssm_lite.models import GCN, state_matrix

FLOAT64 = torch.float64
RATIOS = (0.1, 0.5, 0.999, 1.0, 1.001, 2.0, 10.0)


def random_layer(d, d_out, sigma, seed):
    """A linear GCN with i.i.d. N(0, σ²/d') weights."""
    layer = GCN(d, d_out, None).double()
    generator = torch.Generator().manual_seed(seed)
    layer.weight.data = sigma * torch.randn(d, d_out, generator=generator, dtype=FLOAT64) / d_out ** 0.5
    return layer


def pooled(d, d_out, sigma, seed, S):
    """All n d values γ_ij = λ_i² μ_j from the Jacobian, those of the kernel (d > d') as zeros."""
    n = len(S)
    values = jacobian.singular_values(random_layer(d, d_out, sigma, seed), torch.zeros(n, d, dtype=FLOAT64), S).numpy() ** 2
    return np.concatenate([values, np.zeros(n * d - values.size)])


@pytest.fixture(scope="module")
def grid():
    S = graphs.normalized_adjacency(graphs.grid(10, 10), 100, dtype=FLOAT64)
    return S, graphs.spectrum(S).numpy()


# ---------------------------------------------------------------- Theorem 3.2

@pytest.mark.parametrize("widths", [(24, 24), (16, 32), (32, 16)], ids=lambda w: f"{w[0]}x{w[1]}")
def test_theorem_3_2_mean_and_variance(widths, grid):
    """Over 400 draws of W the sample means agree with the exact expectations within 4 standard errors.

    For every width, not only in the limit: E[mean_j μ_j] = σ² and E[mean_j μ_j²] = σ⁴ (1 + (d + 1)/d'). So the
    variance is σ⁴ (d + 1)/d', of which the theorem's σ⁴ d/d' is the limit. With the λ_i: the mean over i of λ_i² and λ_i⁴.
    """
    S, lambdas = grid
    (d, d_out), sigma, draws = widths, 1.3, 400
    samples = np.stack([pooled(d, d_out, sigma, seed, S) for seed in range(draws)])
    means, variances = spectra.jacobian_moments(lambdas, d / d_out, sigma ** 2)
    finite = (d + 1) / d  # the theorem's variance, times this, is exact

    def z_score(per_draw, expected):
        return (per_draw.mean() - expected) / (per_draw.std(ddof=1) / draws ** 0.5)

    assert abs(z_score(samples.mean(1), means.mean())) < 4
    assert abs(z_score((samples ** 2).mean(1), (variances * finite + means ** 2).mean())) < 4
    # Without the finite-size factor the second moment is off by a multiple of its error: the test can fail.
    assert abs(z_score((samples ** 2).mean(1), (variances / finite ** 2 + means ** 2).mean())) > 4
    # One eigenvalue at a time: λ_1 = 1 gives the law of the μ_j themselves.
    mu = np.stack([np.linalg.svd(random_layer(d, d_out, sigma, s).weight.detach().numpy(), compute_uv=False) ** 2
                   for s in range(draws)])
    assert abs(z_score(mu.sum(1) / d, sigma ** 2)) < 4
    assert abs(z_score((mu ** 2).sum(1) / d, sigma ** 4 * (1 + (d + 1) / d_out))) < 4


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_theorem_3_2_variance_is_reached_with_the_width(ratio):
    """The variance of μ over σ⁴ d/d' is 1 + 1/d up to sampling error, at d = 512 so within 3 %."""
    d, d_out = 512, int(512 / ratio)
    W = random_layer(d, d_out, 1.0, 0).weight.detach().numpy()
    mu = np.linalg.eigvalsh(W @ W.T)
    _, (variance,) = spectra.jacobian_moments([1.0], ratio)
    assert variance == ratio
    assert np.mean(mu ** 2) - np.mean(mu) ** 2 == pytest.approx(variance * (1 + 1 / d), rel=0.03)


def test_theorem_3_2_without_the_scaling():
    """Entries N(0, s²) without 1/d': put σ² = s² d'."""
    d, d_out, s = 300, 200, 0.7
    W = s * torch.randn(d, d_out, generator=torch.Generator().manual_seed(0), dtype=FLOAT64).numpy()
    mu = np.linalg.eigvalsh(W @ W.T)
    (mean,), (variance,) = spectra.jacobian_moments([1.0], d / d_out, s ** 2 * d_out)
    assert mu.mean() == pytest.approx(mean, rel=0.02)
    assert mu.var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_theorem_3_2_mixture_density_close_to_histogram(ratio, grid):
    """Kolmogorov-Smirnov and Wasserstein-1 distance to the mixture fall with the width; at d = 256 both are ≤ 0.01 (σ = 1)."""
    S, lambdas = grid
    distances = []
    for d in (16, 64, 256):
        per_seed = []
        for seed in range(4):
            values = pooled(d, int(d / ratio), 1.0, seed, S)
            points = np.linspace(0, 1.01 * max(values.max(), spectra.marchenko_pastur_support(ratio)[1]), 20001)
            cdf = spectra.jacobian_mixture_cdf(points, lambdas, ratio)
            per_seed.append(spectra.distribution_distance(values, points, cdf))
        distances.append(np.mean(per_seed, axis=0))
    assert (distances[0] > distances[1]).all() and (distances[1] > distances[2]).all()
    assert (distances[2] <= 0.01).all()
    one_law = spectra.marchenko_pastur_cdf(points, ratio, np.mean(lambdas ** 2))
    assert spectra.distribution_distance(values, points, one_law)[0] > 0.1  # pooled, it is no single Marchenko-Pastur law


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_mixture_histogram_bin_by_bin(ratio, grid):
    """The density, not only the distribution function: each bin's share of mass within 0.01."""
    S, lambdas = grid
    values = pooled(256, int(256 / ratio), 1.0, 0, S)
    edges = np.linspace(0.05, spectra.marchenko_pastur_support(ratio)[1], 25)
    shares = np.histogram(values, edges)[0] / values.size
    for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
        x = np.linspace(low, high, 401)
        assert abs(np.trapezoid(spectra.jacobian_mixture_pdf(x, lambdas, ratio), x) - share) < 0.01


def test_jacobian_moments_scale_with_lambda():
    means, variances = spectra.jacobian_moments([1.0, -0.5, 0.0], 0.5, variance=2.0)
    assert np.allclose(means, [2, 0.5, 0]) and np.allclose(variances, [2, 0.125, 0])


# ---------------------------------------------------------------- Marchenko-Pastur

def integral(function, low, high):
    """∫ f over [low, high] after x = low + t², which takes the pole out of 1/√x."""
    value, _ = quad(lambda t: 2 * t * float(function(low + t * t)), 0, (high - low) ** 0.5, epsabs=1e-12, epsrel=1e-12,
                    limit=500)
    return value


@pytest.mark.parametrize("variance", [1.0, 0.3])
@pytest.mark.parametrize("ratio", RATIOS)
def test_marchenko_pastur_moments(ratio, variance):
    """Mass 1 with the atom, mean σ², variance σ⁴ c."""
    low, high = spectra.marchenko_pastur_support(ratio, variance)
    moments = [integral(lambda x, k=k: x ** k * spectra.marchenko_pastur_pdf(x, ratio, variance), low, high) for k in range(3)]
    assert moments[0] + spectra.marchenko_pastur_atom(ratio) == pytest.approx(1, abs=1e-8)
    assert moments[1] == pytest.approx(variance, rel=1e-8)
    assert moments[2] - moments[1] ** 2 == pytest.approx(variance ** 2 * ratio, rel=1e-7)


@pytest.mark.parametrize("variance", [1.0, 0.3])
@pytest.mark.parametrize("ratio", RATIOS)
def test_marchenko_pastur_cdf_is_the_integral_of_the_pdf(ratio, variance):
    """To 1e-9 everywhere, the pole at zero for c = 1 and its neighbours included."""
    low, high = spectra.marchenko_pastur_support(ratio, variance)
    atom = spectra.marchenko_pastur_atom(ratio)
    points = low + (high - low) * np.array([1e-9, 1e-6, 1e-3, 0.02, 0.3, 0.7, 0.99])
    expected = [atom + integral(lambda x: spectra.marchenko_pastur_pdf(x, ratio, variance), low, x) for x in points]
    assert np.allclose(spectra.marchenko_pastur_cdf(points, ratio, variance), expected, atol=1e-9)
    assert spectra.marchenko_pastur_cdf([-1e-9, 0, low / 2, high, 2 * high], ratio, variance).tolist() == pytest.approx(
        [0, atom, atom, 1, 1], abs=1e-12)
    grid = np.linspace(-0.1, high + 0.1, 5001)
    assert (np.diff(spectra.marchenko_pastur_cdf(grid, ratio, variance)) >= 0).all()


def test_marchenko_pastur_near_zero_at_c_1():
    """f ~ 1/(π σ √x), F ~ 2 √x / (π σ)."""
    for variance in (1.0, 4.0):
        x = np.array([1e-12, 1e-8, 1e-5])
        sigma = variance ** 0.5
        assert np.allclose(spectra.marchenko_pastur_pdf(x, 1, variance) * np.pi * sigma * np.sqrt(x), 1, atol=1e-5)
        assert np.allclose(spectra.marchenko_pastur_cdf(x, 1, variance) / (2 * np.sqrt(x) / (np.pi * sigma)), 1, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_marchenko_pastur_describes_a_random_matrix(ratio):
    W = random_layer(600, int(600 / ratio), 1.0, 3).weight.detach().numpy()
    mu = np.clip(np.linalg.eigvalsh(W @ W.T), 0, None)
    mu[mu < 1e-10] = 0
    assert kstest(mu[mu > 0], lambda x: (spectra.marchenko_pastur_cdf(x, ratio) - spectra.marchenko_pastur_atom(ratio))
                  / (1 - spectra.marchenko_pastur_atom(ratio))).statistic < 0.01
    assert np.mean(mu == 0) == pytest.approx(spectra.marchenko_pastur_atom(ratio), abs=1e-12)


def test_pdf_is_zero_outside_its_support_and_keeps_the_shape():
    low, high = spectra.marchenko_pastur_support(0.5)
    assert (spectra.marchenko_pastur_pdf([-1, 0, low / 2, high * 1.01], 0.5) == 0).all()
    assert spectra.marchenko_pastur_pdf(np.ones((2, 3)), 0.5).shape == (2, 3)
    assert spectra.marchenko_pastur_pdf(torch.ones(2), 0.5).shape == (2,)
    assert spectra.jacobian_mixture_pdf(np.ones((2, 3)), [1.0, 0.5], 0.5).shape == (2, 3)


# ---------------------------------------------------------------- the mixture

@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("lambdas", [[1.0], [1.0, 0.5, -0.4, 0.1], [1.0, 0.6, 0.0, 0.0]], ids=str)
def test_mixture_integrates_with_its_atom_to_one(lambdas, ratio):
    """Zero λ_i and, for d > d', zero μ_j make the atom."""
    atom = spectra.jacobian_mixture_atom(lambdas, ratio)
    zero = np.mean(np.array(lambdas) == 0)
    assert atom == pytest.approx(zero + (1 - zero) * max(0, 1 - 1 / ratio))
    high = spectra.marchenko_pastur_support(ratio)[1]
    root = np.linspace(0, high ** 0.5, 400_001)[1:]
    area = np.trapezoid(2 * root * spectra.jacobian_mixture_pdf(root ** 2, lambdas, ratio), root)
    assert area + atom == pytest.approx(1, abs=1e-4)
    assert spectra.jacobian_mixture_cdf([0.0, high], lambdas, ratio).tolist() == pytest.approx([atom, 1])


@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0])
def test_mixture_cdf_is_the_average_of_scaled_laws(ratio):
    """F(x) = (1/n) Σ_i F_MP(x/λ_i²), to 1e-5, a zero λ_i being a step at 0."""
    lambdas = np.array([1.0, 0.7, -0.7, 0.3, 0.01, 0.0])
    x = np.concatenate([[-1.0, 0.0], np.geomspace(1e-8, 5, 300)])
    laws = [spectra.marchenko_pastur_cdf(x / s, ratio, 0.8) if s else (x >= 0).astype(float) for s in lambdas ** 2]
    assert np.allclose(spectra.jacobian_mixture_cdf(x, lambdas, ratio, 0.8), np.mean(laws, axis=0), atol=1e-5)


def test_eigenvalues_that_are_zero_up_to_rounding_belong_to_the_atom():
    """D̃^{-1/2}(A + I)D̃^{-1/2} of a complete graph has rank one: all but one λ_i are zero, numerically ±1e-17."""
    lambdas = graphs.spectrum(graphs.normalized_adjacency(graphs.complete(8), 8, dtype=FLOAT64))
    assert spectra.jacobian_mixture_atom(lambdas, 0.5) == pytest.approx(7 / 8)


# ---------------------------------------------------------------- distances

def test_distribution_distance_equals_scipys():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=300)
    points = np.linspace(0, 40, 400_001)
    cdf = 1 - np.exp(-points)
    ks, w1 = spectra.distribution_distance(values, points, cdf)
    assert ks == pytest.approx(kstest(values, "expon").statistic, abs=1e-3)
    quantiles = -np.log1p(-(np.arange(200_000) + 0.5) / 200_000)
    assert w1 == pytest.approx(wasserstein_distance(values, quantiles), abs=1e-3)


def test_edge_of_chaos_distance_is_the_mean_gap_to_the_unit_circle():
    assert spectra.edge_of_chaos_distance([1, -1, 1j]) == 0
    assert spectra.edge_of_chaos_distance([2, 0]) == 1
    assert spectra.edge_of_chaos_distance(np.array([1.5, 0.5 + 0j])) == pytest.approx(0.5)
    Q = state_matrix(20, generator=torch.Generator().manual_seed(0), dtype=FLOAT64)
    assert spectra.edge_of_chaos_distance(torch.linalg.eigvals(Q)) == pytest.approx(0, abs=1e-13)
    assert spectra.edge_of_chaos_distance(torch.linalg.eigvals(0.7 * Q)) == pytest.approx(0.3)


@pytest.mark.parametrize("n", [2, 4, 9])
def test_on_a_complete_graph_with_ratio_one_over_n_the_mixture_is_one_law_of_another_ratio(n):
    """Corollary 3.C needs "the same ratio": here all of it is the Marchenko–Pastur law of ratio n and variance σ²/n."""
    lambdas = np.array([1.0] + [0.0] * (n - 1))
    low, high = spectra.marchenko_pastur_support(1 / n)
    x = np.linspace(low, high, 50)[1:-1]
    assert np.allclose(spectra.jacobian_mixture_pdf(x, lambdas, 1 / n), spectra.marchenko_pastur_pdf(x, n, 1 / n), rtol=1e-9)
    assert spectra.jacobian_mixture_atom(lambdas, 1 / n) == pytest.approx(spectra.marchenko_pastur_atom(n)) == pytest.approx(1 - 1 / n)
    assert not np.allclose(spectra.jacobian_mixture_pdf(x, lambdas, 1 / n), spectra.marchenko_pastur_pdf(x, 1 / n, 1 / n), rtol=0.1)
