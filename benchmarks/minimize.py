"""`python -m benchmarks.minimize [--plot DIR]`: what the theory says of `minimize`, and what an iteration costs.

Iterations until `(F - F*)/(F_0 - F*)` is below the accuracy; rates and bounds beside what was measured.  `--plot`
writes `minimize.png`.  The cost is that of the loop around functions of 10 variables that are compiled: a run with many
iterations, less the time of its gradients alone.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numba import njit
from rich.console import Console
from rich.table import Table

from nagd_numba import minimize, minimize_many
from nagd_numba.bench.timing import interleaved

from . import problems

FISTA = {"method": "fista", "restart": None}
SCHEMES = {
    "gradient descent": {"method": "gd"},
    "FISTA": FISTA,
    "restart by gradient": {"method": "fista", "restart": "gradient"},
    "restart by function": {"method": "fista", "restart": "function"},
    "backtracking, restart": {"method": "fista", "L": None},
}


def schemes(problem):
    """All ways to solve a problem, with those that need its strong convexity."""
    made = dict(SCHEMES)
    if problem.convexity:
        made["constant momentum"] = {"strong_convexity": problem.convexity}
    return made


def iterations(problem, accuracy, named, maxiter=60_000):
    """Of each scheme: how many it takes, and the way there."""
    return {name: problem.run(accuracy, maxiter, **options)[1] for name, options in named.items()}


def rates(condition=100.0, between=(200, 1000)):
    """Of each scheme on a quadratic: the factor per iteration that theory says, and the one measured late."""
    problem = problems.two_curvatures(condition)
    m, root = problem.convexity, np.sqrt(condition)
    runs = {
        "gradient descent, 1/L": (1 - 1 / condition, {"method": "gd"}),
        "gradient descent, 2/(L+m)": ((condition - 1) / (condition + 1), {"method": "gd", "strong_convexity": m}),
        "Nesterov, 1/L": (1 - 1 / root, {"strong_convexity": m}),
        "Nesterov, best on quadratics": (
            1 - 2 / np.sqrt(3 * condition + 1),
            problems.best_on_quadratics(problem.L, m),
        ),
        "heavy ball": ((root - 1) / (root + 1), {"method": "momentum", "strong_convexity": m}),
    }
    found = {}
    for name, (theory, options) in runs.items():
        _, path = problem.run(maxiter=between[1], **options)
        found[name] = theory, (path[between[1]] / path[between[0]]) ** (0.5 / (between[1] - between[0]))
    return found


def worst_cases(ks=(1, 2, 5, 10, 20, 50, 100, 200)):
    """FISTA after k steps on Nesterov's worst function of 2k + 1 variables: lower bound, F - F*, upper bound."""
    found = {}
    for k in ks:
        problem = problems.worst(k)
        _, path = problem.run(maxiter=k, **FISTA)
        n = problem.x0.size
        radius2 = float(np.sum((1 - np.arange(1, n + 1) / (n + 1)) ** 2))
        bounds = 3 * radius2 / (32 * (k + 1) ** 2), 2 * radius2 / (k + 1) ** 2
        found[k] = bounds[0], path[-1] * -problem.least, bounds[1]
    return found


def oscillation(step, until=12.0):
    """FISTA on x^2/2 from 1 at the step s: the times k sqrt(s), and x_k, which tends to 2 J1(t)/t as s goes to 0."""
    path = [1.0]
    minimize(
        problems.quadratic,
        np.ones(1),
        (np.eye(1), np.zeros(1)),
        True,
        L=1 / step,
        tol=0.0,
        maxiter=int(until / np.sqrt(step)),
        callback=lambda x: path.append(x[0]),
        **FISTA,
    )
    return np.sqrt(step) * np.arange(len(path)), np.array(path)


@njit
def cheap(x, scales):
    """Ten springs of unequal strength."""
    g = np.empty_like(x)
    total = 0.0
    for i in range(x.size):
        g[i] = scales[i] * (x[i] - 1)
        total += 0.5 * g[i] * (x[i] - 1)
    return total, g


@njit
def evaluations(x, scales, count):
    """Only the function and its gradient, `count` times."""
    total = 0.0
    for _ in range(count):
        f, g = cheap(x, scales)
        total += f
        x[0] = 1e-9 * g[1]
    return total


def overhead(count=20_000):
    """Nanoseconds per iteration at n = 10 beyond the evaluations, which it counts, for some ways to run."""
    scales = np.geomspace(1e-8, 1.0, 10)
    ways = {"FISTA with restart": {"L": 1.0}, "constant momentum": {"L": 1.0, "strong_convexity": 1e-8}}
    ways["backtracking"] = {}
    ways["l1"] = {"L": 1.0, "prox": "l1", "options": {"l1": 1e-12}}
    found = {}
    for name, options in ways.items():

        def run(options=options):
            return minimize(cheap, np.zeros(10), (scales,), True, tol=0.0, maxiter=count, **options)

        result = run()
        calls = result.nfev
        seconds = interleaved({"all": run, "evaluations": lambda calls=calls: evaluations(np.zeros(10), scales, calls)})
        excess = np.median(np.array(seconds["all"]) - np.array(seconds["evaluations"])) / max(result.nit, 1)
        found[name] = 1e9 * excess, 1e9 * float(np.median(seconds["all"])) / max(result.nit, 1)
    return found


@njit
def decay(x, signal, times):
    """Half the squared misfit of `x_1 exp(-x_2 t)`, and its gradient."""
    total, g = 0.0, np.zeros(2)
    for i in range(times.size):
        e = np.exp(-x[1] * times[i])
        r = x[0] * e - signal[i]
        total += 0.5 * r * r
        g[0] += r * e
        g[1] -= r * x[0] * times[i] * e
    return total, g


def many(pixels=20_000):
    """Problems a second: all together, and one after another from Python."""
    rng = np.random.default_rng(0)
    times = np.linspace(0.0, 3.0, 16)
    truth = rng.uniform(0.5, 1.5, size=(pixels, 2))
    signals = truth[:, :1] * np.exp(-truth[:, 1:] * times) + 0.01 * rng.normal(size=(pixels, 16))
    start = np.ones((pixels, 2))
    minimize_many(decay, start[:8], (signals[:8],), (times,), jac=True)
    minimize(decay, start[0], (signals[0], times), True)
    began = time.perf_counter()
    together = minimize_many(decay, start, (signals,), (times,), jac=True)
    between = time.perf_counter()
    alone = [minimize(decay, start[m], (signals[m], times), True) for m in range(min(pixels, 1000))]
    ended = time.perf_counter()
    assert all((one.x == x).all() for one, x in zip(alone, together.x, strict=False))
    return pixels / (between - began), len(alone) / (ended - between), float(together.success.mean())


def plot(folder, paths, pieces):
    """The figures as one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from scipy.special import j1

    colours = ["#777777", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"]  # Okabe and Ito's
    lines = ["-", "-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))]  # for grey prints
    look = {
        "axes.prop_cycle": pyplot.cycler(color=colours) + pyplot.cycler(linestyle=lines),
        "legend.fontsize": 8,
        "axes.titlesize": 11,
    }
    with pyplot.rc_context(look):
        figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.6), layout="constrained")
        for axis, (title, found) in zip(axes.flat, paths.items(), strict=False):
            for name, path in found.items():
                axis.semilogy(np.maximum(path, 1e-16), label=name)
            axis.set(
                title=title.replace("10^4", "$10^4$").replace(" x ", " × "),
                xlabel="iterations",
                ylabel="$(F - F^*) / (F_0 - F^*)$",
            )
            axis.set_xlim(0, 1.1 * sorted(map(len, found.values()))[-2])
            axis.set_ylim(top=300)  # room for the legend
            axis.legend(loc="upper right", ncols=2, fontsize=7.5)
        axis = axes[1, 0]
        ks = np.array(list(pieces["worst"]))
        lower, value, upper = np.array(list(pieces["worst"].values())).T
        axis.loglog(ks, upper, "--", label="$2 L R^2/(k+1)^2$")
        axis.loglog(ks, value, "o-", label="FISTA")
        axis.loglog(ks, lower, ":", label="$3 L R^2/(32 (k+1)^2)$")
        axis.legend()
        axis.set(title="Nesterov's worst function of 2k + 1 variables", xlabel="k", ylabel="$F - F^*$")
        axis = axes[1, 1]
        theory, measured = 1 - np.array(list(pieces["rates"].values())).T
        places = np.arange(len(theory))
        axis.barh(places - 0.2, theory, 0.38, color="0.75", label="theory")
        axis.barh(places + 0.2, measured, 0.38, color=colours[1], hatch="//", edgecolor="white", label="measured")
        axis.set_yticks(places, [name.replace(", ", ",\n") for name in pieces["rates"]], fontsize=8)
        axis.set(title="1 - rate on a quadratic, condition 100", xlabel="1 - rate", xticks=[0, 0.05, 0.1, 0.15])
        axis.legend(loc="lower right")
        axis.margins(y=0.02)
        axis = axes[1, 2]
        for step in (1e-1, 1e-2, 1e-4):
            axis.plot(*oscillation(step), label=f"s = {step:g}")
        t = np.linspace(1e-6, 12, 500)
        axis.plot(t, 2 * j1(t) / t, "k:", lw=2, label="$2 J_1(t)/t$")
        axis.set(title="FISTA on $x^2/2$ and its differential equation", xlabel="$k \\sqrt{s}$", ylabel="$x / x_0$")
        axis.legend()
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "minimize.png", dpi=110)
    return folder / "minimize.png"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write minimize.png there")
    options = parser.parse_args()
    console = Console()
    cases = {
        "quadratic, n = 500, condition 10^4": (problems.rotated_quadratic(), 1e-8),
        "lasso, 500 x 2000": (problems.lasso(), 1e-6),
        "logistic regression, 1000 x 100": (problems.logistic_regression(), 1e-8),
    }
    paths = {}
    for title, (problem, accuracy) in cases.items():
        named = schemes(problem)
        if problem.fun is problems.quadratic:
            named["best constant momentum"] = problems.best_on_quadratics(problem.L, problem.convexity)
        paths[title] = iterations(problem, accuracy, named)
        table = Table("scheme", "iterations", "of FISTA's", title=f"{title}, to {accuracy:g}")
        for name, path in paths[title].items():
            table.add_row(name, f"{len(path) - 1:,}", f"{(len(path) - 1) / (len(paths[title]['FISTA']) - 1):.2f}")
        console.print(table)
    pieces = {"worst": worst_cases(), "rates": rates()}
    table = Table("k", "lower bound", "FISTA", "upper bound", title="Nesterov's worst function")
    for k, values in pieces["worst"].items():
        table.add_row(str(k), *(f"{value:.3e}" for value in values))
    console.print(table)
    table = Table("scheme", "theory", "measured", title="Rates on a quadratic, condition 100")
    for name, values in pieces["rates"].items():
        table.add_row(name, *(f"{value:.4f}" for value in values))
    console.print(table)
    from scipy.special import j1

    table = Table("s", "largest error / sqrt s", title="FISTA on x^2/2 beside 2 J1(t)/t")
    for step in (1e-2, 1e-3, 1e-4, 1e-5):
        t, x = oscillation(step)
        table.add_row(f"{step:g}", f"{np.abs(x[1:] - 2 * j1(t[1:]) / t[1:]).max() / np.sqrt(step):.3f}")
    console.print(table)
    table = Table("n = 10", "beyond the evaluations (at most 500)", "with them", title="ns per iteration")
    for name, values in overhead().items():
        table.add_row(name, *(f"{value:.0f}" for value in values))
    console.print(table)
    together, alone, share = many()
    console.print(
        f"fits of a decay a second: minimize_many {together:,.0f}, minimize one by one {alone:,.0f}; "
        f"{share:.1%} converged"
    )
    if options.plot:
        console.print(f"wrote {plot(options.plot, paths, pieces)}")


if __name__ == "__main__":
    main()
