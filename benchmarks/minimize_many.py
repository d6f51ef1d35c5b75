"""`python -m benchmarks.minimize_many [--parameters 5 2] [--problems N]`: fits of decays a second, and those of peers.

    5 parameters   a exp(-r t) + b exp(-s t) + c in 20 samples, from one start for all
    2 parameters   a exp(-r t) in 20 samples

`minimize_many` in lanes and without them; `jax.vmap` over jaxopt's accelerated gradient descent, which is the same
method, over optimistix' BFGS and Levenberg-Marquardt; SciPy's L-BFGS-B with the same compiled function, one by one.
All in float64, in turns in one process, each to its own stopping rule at the same tolerance of the gradient where it
has one.  Methods with second derivatives need fewer evaluations: that is part of the comparison.

For graphics processors: Gpufit's authors report fits up to 42 times as fast as with the same algorithm on a processor
(A. Przybylski et al., Scientific Reports 7, 15722 (2017)).
"""

import argparse
import math
import statistics

import numpy as np
from numba import njit
from rich.console import Console
from rich.table import Table

from nagd_numba import minimize_many
from nagd_numba.bench.timing import FEW_ROUNDS, QUICK, interleaved
from nagd_numba.minimizer import lane_rows

TIMES = np.linspace(0.0, 3.0, 20)
NOISE = 0.01


@njit
def two_decays(x, signal, times):
    """Half the squared misfit of `x_0 exp(-x_1 t) + x_2 exp(-x_3 t) + x_4`, and its gradient."""
    total, g = 0.0, np.zeros(5)
    for i in range(times.size):
        t = times[i]
        e, d = math.exp(-x[1] * t), math.exp(-x[3] * t)
        r = x[0] * e + x[2] * d + x[4] - signal[i]
        total += 0.5 * r * r
        g[0] += r * e
        g[1] -= r * x[0] * t * e
        g[2] += r * d
        g[3] -= r * x[2] * t * d
        g[4] += r
    return total, g


@njit
def decay(x, signal, times):
    total, g = 0.0, np.zeros(2)
    for i in range(times.size):
        e = math.exp(-x[1] * times[i])
        r = x[0] * e - signal[i]
        total += 0.5 * r * r
        g[0] += r * e
        g[1] -= r * x[0] * times[i] * e
    return total, g


def model(x, times):
    """The curves of some parameters, in the last axis of each; NumPy or JAX."""
    xp = np if isinstance(x, np.ndarray) else __import__("jax").numpy
    a, r = x[..., 0, None], x[..., 1, None]
    curve = a * xp.exp(-r * times)
    if x.shape[-1] == 5:
        curve = curve + x[..., 2, None] * xp.exp(-x[..., 3, None] * times) + x[..., 4, None]
    return curve


CASES = {
    5: (two_decays, [(0.8, 1.2), (0.8, 1.2), (0.4, 0.6), (3.0, 5.0), (0.1, 0.3)], [1.0, 1.0, 0.5, 4.0, 0.2]),
    2: (decay, [(0.5, 1.5), (0.5, 1.5)], [1.0, 1.0]),
}


def problems(n, count):
    _, ranges, start = CASES[n]
    rng = np.random.default_rng(0)
    truth = np.stack([rng.uniform(*bounds, size=count) for bounds in ranges], axis=1)
    return model(truth, TIMES) + NOISE * rng.normal(size=(count, TIMES.size)), np.tile(start, (count, 1))


def peers(n, count, tol):
    """Of those that are installed: a call that fits so many, and what it fitted."""
    fun, _, _ = CASES[n]
    signals, starts = problems(n, count)
    found = {}
    try:
        from scipy.optimize import minimize

        few = min(count, 200)

        def scipy():
            args = [(signals[m], TIMES) for m in range(few)]
            options = {"gtol": tol, "ftol": 0.0}
            return [minimize(fun, starts[m], args[m], "L-BFGS-B", jac=True, options=options).nfev for m in range(few)]

        found["SciPy L-BFGS-B, one by one"] = few, scipy
    except ImportError:
        pass
    try:
        import jax

        jax.config.update("jax_enable_x64", True)
        there = jax.device_put(starts), jax.device_put(signals)

        def objective(x, signal):
            return 0.5 * jax.numpy.sum((model(x, TIMES) - signal) ** 2)

        def vmapped(solve):
            call = jax.jit(jax.vmap(solve))
            return lambda: call(*there).block_until_ready()

        try:
            from jaxopt import GradientDescent

            method = GradientDescent(objective, tol=tol, maxiter=2000, implicit_diff=False)
            found["jax.vmap, jaxopt accelerated descent"] = count, vmapped(lambda x, s: method.run(x, s).params)
        except ImportError:
            pass
        try:
            import optimistix

            def bfgs(x, signal):
                method = optimistix.BFGS(rtol=tol, atol=tol)
                return optimistix.minimise(objective, method, x, signal, max_steps=500, throw=False).value

            def marquardt(x, signal):
                method = optimistix.LevenbergMarquardt(rtol=tol, atol=tol)
                return optimistix.least_squares(
                    lambda x, s: model(x, TIMES) - s, method, x, signal, max_steps=500, throw=False
                ).value

            found["jax.vmap, optimistix BFGS"] = count, vmapped(bfgs)
            found["jax.vmap, optimistix Levenberg-Marquardt"] = count, vmapped(marquardt)
        except ImportError:
            pass
    except ImportError:
        pass
    return found


def rates(n, tol, count, peer_count):
    """Fits a second of each, and how many evaluations ours takes."""
    fun, _, _ = CASES[n]
    signals, starts = problems(n, count)

    def ours():
        return minimize_many(fun, starts, (signals,), (TIMES,), jac=True, tol=tol)

    def without_lanes():
        kept, lane_rows.LANES_FROM = lane_rows.LANES_FROM, count + 1
        try:
            some = slice(0, max(1, count // 10))
            return minimize_many(fun, starts[some], (signals[some],), (TIMES,), jac=True, tol=tol)
        finally:
            lane_rows.LANES_FROM = kept

    contenders = {"minimize_many": (count, ours), "the same, without lanes": (max(1, count // 10), without_lanes)}
    contenders |= peers(n, peer_count, tol)
    seconds = interleaved({name: call for name, (_, call) in contenders.items()}, rounds=FEW_ROUNDS)
    result = ours()
    found = {name: contenders[name][0] / statistics.median(times) for name, times in seconds.items()}
    return found, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--problems", type=int, default=2_000 if QUICK else 200_000)
    options = parser.parse_args()
    console = Console()
    for n in options.parameters:
        tol = 1e-3 if n == 5 else 1e-5
        found, result = rates(n, tol, options.problems, max(1, options.problems // 100))
        title = f"{n} parameters, 20 samples, no gradient above {tol:g}: {result.nfev.mean():.1f} evaluations a fit"
        table = Table("", "fits a second", "of minimize_many", title=title)
        for name, rate in sorted(found.items(), key=lambda item: -item[1]):
            table.add_row(name, f"{rate:,.0f}", f"{rate / found['minimize_many']:.4f}")
        console.print(table)
        evaluations = found["minimize_many"] * result.nfev.mean()
        console.print(f"{result.success.mean():.1%} converged; {evaluations:,.0f} evaluations a second")


if __name__ == "__main__":
    main()
