"""A Gaussian mixture fitted by Nesterov's method on its negative log-likelihood, beside scikit-learn's EM.

Diagonal covariances; the parameters are free numbers: scores of the weights (softmax), means, logarithms of the
standard deviations.  Prints both mean log-likelihoods; writes gaussian_mixture.png.
"""

import math

import numpy as np
from numba import njit

from nagd_numba import minimize


@njit
def negative_log_likelihood(x, data, k):
    """The mean over the rows, and its gradient."""
    rows, d = data.shape
    scores, means, logs = x[:k], x[k : k + k * d].reshape(k, d), x[k + k * d :].reshape(k, d)
    total, g = 0.0, np.zeros(x.size)
    g_scores, g_means, g_logs = g[:k], g[k : k + k * d].reshape(k, d), g[k + k * d :].reshape(k, d)
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    share = np.empty(k)
    for i in range(rows):
        for j in range(k):
            share[j] = math.log(weights[j]) - 0.5 * d * math.log(2 * math.pi)
            for c in range(d):
                share[j] -= logs[j, c] + 0.5 * ((data[i, c] - means[j, c]) * math.exp(-logs[j, c])) ** 2
        most = share.max()
        share = np.exp(share - most)
        total -= most + math.log(share.sum())
        share /= share.sum()
        for j in range(k):
            g_scores[j] -= share[j] - weights[j]
            for c in range(d):
                away = (data[i, c] - means[j, c]) * math.exp(-logs[j, c])
                g_means[j, c] -= share[j] * away * math.exp(-logs[j, c])
                g_logs[j, c] -= share[j] * (away * away - 1.0)
    return total / rows, g / rows


def make_data(rng):
    centres = np.array([[0.0, 0.0], [4.0, 1.0], [1.0, 4.0]])
    widths = np.array([[1.0, 0.5], [0.4, 1.2], [0.8, 0.8]])
    which = rng.choice(3, size=1500, p=[0.5, 0.3, 0.2])
    return centres[which] + widths[which] * rng.normal(size=(1500, 2))


def farthest(data, k):
    """Means to start from: a row, then always the row that is farthest from those taken."""
    taken = [data[0]]
    while len(taken) < k:
        taken.append(data[np.min([np.sum((data - m) ** 2, axis=1) for m in taken], axis=0).argmax()])
    return np.array(taken)


data = make_data(np.random.default_rng(0))
K = 3
start = np.concatenate([np.zeros(K), farthest(data, K).ravel(), np.tile(np.log(data.std(axis=0)), K)])
result = minimize(negative_log_likelihood, start, (data, K), jac=True, tol=1e-8)
print(f"Nesterov: mean log-likelihood {-result.fun:.8f} after {result.nit} iterations, converged: {result.success}")

try:
    from sklearn.mixture import GaussianMixture
except ImportError:
    print("no comparison: scikit-learn is not installed")
else:
    options = {"tol": 1e-10, "max_iter": 10_000, "reg_covar": 0.0}  # to the end, and of the same objective
    em = GaussianMixture(K, covariance_type="diag", n_init=5, random_state=0, **options).fit(data)
    print(f"EM:       mean log-likelihood {em.score(data):.8f} after {em.n_iter_} iterations (best of 5 starts)")
    print(f"difference: {-result.fun - em.score(data):+.1e}")

try:
    from matplotlib import pyplot
except ImportError:
    print("no plot: matplotlib is not installed")
else:
    means = result.x[K : 3 * K].reshape(K, 2)
    widths = np.exp(result.x[3 * K :]).reshape(K, 2)
    angle = np.linspace(0, 2 * np.pi, 100)
    pyplot.plot(*data.T, ".", ms=2, color="0.6")
    for mean, width in zip(means, widths, strict=True):
        pyplot.plot(mean[0] + 2 * width[0] * np.cos(angle), mean[1] + 2 * width[1] * np.sin(angle))
    pyplot.savefig("gaussian_mixture.png")
