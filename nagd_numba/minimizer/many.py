"""`minimize_many`: many small problems, one to a core, or to a thread of a device."""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import get_num_threads, set_num_threads

from ..kernels.autotune import CALL_SECONDS, Autotuner
from ..kernels.forms import LONG, Forms
from ..kernels.raising import ALWAYS
from ..kernels.threading_layer import parallel_allowed
from ..validation import prefixed, raised_here
from . import algorithm, lane_rows, settings, user_functions
from .gpu.solve import on_device, solve_many, starts
from .objective import COUNTS
from .results import together
from .specialize import compiled_solver, interpreted, row, rows, threads_take

LONG_SECONDS = LONG / 1e9
PATIENCE = 0.2  # seconds: on a busy machine threads may wait for a core for 0.02 in each of the first calls
SAMPLE = 16  # problems, and one in a thousand: solved alone, too, where all are solved in lanes


@prefixed("minimize_many")
def minimize_many(
    fun: Callable[..., Any],
    X0: Any,
    args: Any = (),
    shared: Any = (),
    jac: Callable[..., Any] | bool | None = None,
    method: str = "nag",
    L: float | None = None,
    strong_convexity: float | None = None,
    restart: str | None = "gradient",
    prox: str | Callable[..., Any] | None = None,
    tol: float = 1e-5,
    maxiter: int = 10_000,
    options: dict[str, Any] | None = None,
) -> Any:
    """Minimise many small problems of one form over all cores, each as `minimize` does it alone, to the last bit.

    Problem `m` is `minimize(fun, X0[m], (*(a[m] for a in args), *shared), ...)`.

    Parameters
    ----------
    fun, jac : function
        As for `minimize`; called as `fun(x, *rows, *shared)`.  With `@njit` functions the problems are divided among
        the cores; with others they run one after another.
    X0 : array of shape (M, n)
        The starts, one in each row; not modified.  No problems are fine too.  A float32 or float64 array on a CUDA
        device, with `fun` of `@njit` or `@cuda.jit(device=True)`: each problem is solved by a thread of the device,
        in one launch where 128 iterations are enough for all; everything is computed in float64.
    args : tuple of arrays of length M
        What differs: each problem gets its row (or element) of each array.  On a device, contiguous arrays there.
    shared : tuple
        What all problems have in common.  On a device, arrays there and numbers.
    method, L, strong_convexity, restart, prox, tol, maxiter, options
        As for `minimize`, the same for all problems; without `maxtime` and `disp`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        x (M, n), fun (M), jac (M, n), nit, nfev, njev, status, L and restarts (M each), success (M bools), and message.
        A problem whose functions raise has the status 9, its start as x, and NaN as fun, jac and L.  From a device all
        but the message are arrays there; `copy_to_host()`, `torch.as_tensor` or `cupy.asarray` convert them.

    Raises
    ------
    TypeError, ValueError
        As `minimize`, for functions whose signature, types or shapes do not fit, too.

    Warns
    -----
    RuntimeWarning
        Where functions raised: in how many problems, and the first of them with its exception, as in the message.  The
        other problems are solved.  (KeyboardInterrupt, SystemExit and StopIteration end all.)

    Notes
    -----
    From 1,000 problems on, compiled functions are solved in the lanes of vectors, each ending on its own.  Not with
    `restart="function"`, `ftol`, `monotone` or a prox of the user's, nor where functions write to what is shared, make
    arrays of different lengths, call other libraries or are of fastmath: these are solved one by one, to the same bits.

    Ctrl-C is heard within 0.1 s, or the time of one problem on each core (on a device, of 128 iterations).

    On a device it is as `minimize` says: `jac` is "inplace" or None there, and the bits are the CPU's where `fun` has
    only `+ - * /`, comparisons, `abs` and `sqrt`.  The device holds `8 (8 n + 15)` bytes for each problem, for at most
    1 GiB of them at a time, beside the results.  Not yet run on a GPU: tested in an emulator of the compiled kernel.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> targets = np.arange(12.0).reshape(4, 3)
    >>> def fun(x, target):
    ...     return 0.5 * np.sum((x - target) ** 2), x - target
    >>> found = nagd_numba.minimize_many(fun, np.zeros((4, 3)), (targets,), jac=True)
    >>> bool(np.all(found.success)), bool(np.allclose(found.x, targets, atol=1e-4))
    (True, True)
    """
    columns, common = settings.as_args(args), settings.as_args(shared)
    for name in ("maxtime", "disp"):
        if name in settings.checked_options(options):
            raise ValueError(f"options has {name!r}, which is for minimize")
    chosen = method, L, strong_convexity, restart, prox, tol, maxiter, options
    if on_device(X0, fun):
        there = starts("X0", X0, ndim=2)
        wanted = settings.choices(there.shape[1], *chosen)
        return solve_many(fun, there, columns, common, jac, wanted)
    X = settings.starting_point("X0", X0, ndim=2)
    problems, n = X.shape
    columns = tuple(_column(k, column, problems) for k, column in enumerate(columns))
    wanted = settings.choices(n, *chosen)
    if prox in ("box", "nonneg"):
        np.clip(X, wanted.first, wanted.second, out=X)
    G = np.empty_like(X)
    numbers, counts = np.zeros((problems, algorithm.NUMBERS)), np.zeros((problems, COUNTS), np.int64)
    statuses = np.full(problems, algorithm.RAISED)  # until it has run
    fixed = wanted.settings, wanted.first, wanted.second
    errors = _Errors()
    functions = None
    for m in range(problems):
        with errors.kept(m, of_ours=False):
            functions = user_functions.adapted(fun, jac, prox, wanted.penalty, X[m], row(columns, m) + common)
            break
    solve: Any = None
    if functions is not None and functions.jitted:
        solve = compiled_solver(functions, ALWAYS)
        solve_rows = None
        if problems >= lane_rows.LANES_FROM:
            solve_rows = lane_rows.solver(functions, wanted, n, columns, common)
        results = X, G, numbers, counts, statuses
        if solve_rows is not None:
            start_points = X.copy()
            _solve_all(functions, solve_rows, results, fixed, columns, common)
            if not _as_alone(solve, start_points, results, fixed, columns, common):
                warnings.warn(
                    "minimize_many: problems solved in lanes differ from the same solved alone, so that all are solved "
                    "one by one: please report this, with the function",
                    RuntimeWarning,
                    stacklevel=3,
                )
                X[...], solve_rows = start_points, None
        if solve_rows is None:
            parallel = parallel_allowed() and threads_take(common)
            _solve_all(functions, rows(functions, parallel), results, fixed, columns, common)
    elif functions is not None:
        solve = algorithm.solve.bind(**interpreted(functions)._asdict())
        for m in range(problems):
            own = row(columns, m) + common
            work = np.empty((algorithm.VECTORS, n))
            with errors.kept(m):
                statuses[m] = solve(X[m], work, numbers[m], counts[m], *fixed, own)
            G[m] = work[algorithm.G]
    raised = np.flatnonzero(statuses == algorithm.RAISED)
    said = ""
    if raised.size > 0:
        X[raised] = settings.starting_point("X0", X0, ndim=2)[raised]
        G[raised] = np.nan
        numbers[raised] = np.nan
        first = int(raised[0])
        if first not in errors.said:  # it was in a thread where exceptions are not heard
            own = row(columns, first) + common
            with errors.kept(first):
                again = X[first].copy(), np.empty((algorithm.VECTORS, n)), numbers[first].copy(), counts[first].copy()
                solve(*again, *fixed, own)
        error = errors.said.get(first, "an exception that did not come again")
        said = f"{raised.size} of {problems} raised; the first, problem {first}: {error}"
        warnings.warn(f"minimize_many: {said}", RuntimeWarning, stacklevel=3)
    return together(X, G, numbers, counts, statuses, wanted, said)


def _solve_all(
    functions: user_functions.Functions, solve_rows: Any, results: Any, fixed: Any, columns: Any, common: Any
) -> None:
    """Solve all problems, in calls that are short enough for Ctrl-C.

    One thread takes them until a call has taken `LONG_SECONDS`; then all take over.  Once calls took `PATIENCE` in all,
    it is measured, with as many problems of such functions, if one thread takes them from the start or all.
    """
    autotuner, problems, done = Autotuner(("problems",), guess=CALL_SECONDS), len(results[0]), 0
    allowed, known, spent = parallel_allowed(), _known(functions), 0.0
    measured = allowed and known.spent > PATIENCE
    with known.forms.timed(problems) if measured else contextlib.nullcontext(False) as parallel:
        while done < problems:
            _, count = autotuner.next(problems - done)
            several = count > 1 and (parallel or spent > LONG_SECONDS)
            start = time.perf_counter()
            with contextlib.nullcontext() if several or not allowed else _one_thread():
                solve_rows(*results, *fixed, done, done + count, columns, common)
            took = time.perf_counter() - start
            autotuner.took("problems", count, took)
            spent += took if done > 0 else 0.0  # the first may compile
            done += count
    known.spent += spent


def _as_alone(solve: Any, start_points: np.ndarray, results: Any, fixed: Any, columns: Any, common: Any) -> bool:
    """Have some of the problems the bits that they have alone?  One NaN is as good as another.

    What makes lanes of a user's function is a compiler of our own; this is what it is trusted by.
    """
    X, G, numbers, counts, statuses = results
    for m in np.unique(np.linspace(0, len(X) - 1, SAMPLE + len(X) // 1_000).astype(np.int64)):
        x, work = start_points[m].copy(), np.empty((algorithm.VECTORS, X.shape[1]))
        own_numbers, own_counts = np.zeros(algorithm.NUMBERS), np.zeros(COUNTS, np.int64)
        try:
            status = solve(x, work, own_numbers, own_counts, *fixed, row(columns, m) + common)
        except Exception:
            status = algorithm.RAISED
        if status != statuses[m]:
            return False
        pairs = (x, X[m]), (work[algorithm.G], G[m]), (own_numbers, numbers[m]), (own_counts, counts[m])
        if status != algorithm.RAISED and not all(_same_bits(a, b) for a, b in pairs):
            return False
    return True


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(((a == b) & (np.signbit(a) == np.signbit(b))) | ((a != a) & (b != b))))


class _Known:
    """What it took to solve problems of some functions, and the seconds that it took in all."""

    def __init__(self) -> None:
        self.forms, self.spent = Forms(), 0.0


@functools.lru_cache(maxsize=128)
def _known(functions: user_functions.Functions) -> _Known:
    return _Known()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """In this block parallel loops have one thread."""
    before = get_num_threads()
    try:
        set_num_threads(1)
        yield
    finally:
        set_num_threads(before)


class _Errors:
    """What the user's functions raised, by the number of the problem."""

    def __init__(self) -> None:
        self.said: dict[int, str] = {}

    @contextlib.contextmanager
    def kept(self, m: int, of_ours: bool = True) -> Iterator[None]:
        """Keep what is raised in this block, but for StopIteration.

        With `of_ours` False, of the user's code alone: not what says here that functions do not fit.  (What compiled
        code finds itself, such as a division by 0, comes from no frame of its own.)
        """
        try:
            yield
        except StopIteration:
            raise
        except Exception as error:
            if not of_ours and isinstance(error, TypeError | ValueError) and raised_here(error.__traceback__):
                raise
            self.said.setdefault(m, f"{type(error).__name__}: {error}")


def _column(k: int, column: Any, problems: int) -> np.ndarray:
    made = np.ascontiguousarray(column)
    if np.ndim(column) == 0 or len(made) != problems:
        raise ValueError(
            f"args[{k}] has shape {np.shape(column)} and there are {problems} problems; an array with a row for each "
            f"is needed; what all have in common goes to shared"
        )
    return made if made.dtype.isnative else made.astype(made.dtype.newbyteorder("="))
