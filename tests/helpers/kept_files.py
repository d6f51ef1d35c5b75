"""One small file of each kind that the library reads, and how it is read: what tests damage."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nagd_numba
from nagd_numba import MLP
from nagd_numba.cli import checkpoint
from nagd_numba.cli.checkpoint import Checkpoint
from nagd_numba.cli.comparison import Best, Comparison, Epoch, Result, State
from nagd_numba.cli.config import Config
from nagd_numba.cli.data import load_file, split
from nagd_numba.cli.data.samples import checked
from nagd_numba.distributed import ShardedStep
from nagd_numba.model_file import Preprocessing, load_model, save_model

CONFIG = Config(methods=("nag",), hidden=(2,), epochs=2, device="cpu", validation=0.3)
SOURCE = {"data": "x.npz", "label": None, "delimiter": None, "header": None, "decimal": None}


class Kind(NamedTuple):
    """`write(path, seed)` makes a file, `read(path)` reads it, `check` raises for a result that is none.

    `bits(result)` is all that decides what is computed from it, None for files that anybody may write.  `files` are
    those that may be damaged, by the path given to `write`.
    """

    name: str
    write: Callable[[Path, int], None]
    read: Callable[[Path], Any]
    check: Callable[[Any], None]
    bits: Callable[[Any], Any] | None
    files: Callable[[Path], list[Path]] = lambda path: [path]


def _small_data() -> Any:
    X = np.arange(24.0).reshape(12, 2)
    return split(checked(X, np.array(["a", "b"])[np.arange(12) % 2], "small"), CONFIG.validation, CONFIG.seed)


def _write_model(path: Path, seed: int) -> None:
    model = MLP((2, 3, 2))
    save_model(path, model, model.init(seed), Preprocessing(np.zeros(2), np.ones(2), np.array(["a", "b"])))


def _check_model(read: Any) -> None:
    model, params, preprocessing = read
    assert model.predict(params, preprocessing(np.zeros((1, model.sizes[0])), params.dtype)).shape == (1,)
    assert str(preprocessing.classes[0])


def _model_bits(read: Any) -> Any:
    model, params, preprocessing = read
    arrays = (params, preprocessing.mean, preprocessing.scale, preprocessing.classes)
    return model.sizes, repr(model), [(x.dtype.str, x.tobytes()) for x in arrays]


def _write_training(path: Path, seed: int) -> None:
    """A comparison as it is after an epoch, without the time that takes."""
    run = Comparison(_small_data(), CONFIG)
    params = run.model.init(seed)
    epoch = Epoch(1, 0.5, 0.6, 0.75)
    run.states["nag"] = State(Result("nag", [epoch], 0.7, 0.1), params, np.zeros_like(params))
    run.best = Best("nag", epoch, params)
    content = checkpoint.content(run, SOURCE)
    save_model(path, run.model, run.best.params, run.data.preprocessing, "nag", 1, 0.75, content)


def _resume(path: Path) -> Any:
    kept = Checkpoint(path)
    run = Comparison(_small_data(), kept.config)
    kept.restore(run)
    return run


def _check_training(run: Any) -> None:
    assert all(1 <= epoch.number <= len(result.history) for result in run.results for epoch in result.history)


def _training_bits(run: Any) -> Any:
    states = {name: (x.result, x.params.tobytes(), x.vel.tobytes()) for name, x in run.states.items()}
    return repr((run.config, states)), run.best and (run.best.method, run.best.epoch, run.best.params.tobytes())


def _write_states(path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    state = nagd_numba.Int8State(random.integers(-9, 9, 256).astype(np.int8), np.ones(1, np.float32))
    lists = [random.normal(size=3), random.normal(size=2).astype(np.float16)]
    nagd_numba.save_states(path, params=lists, vel=state, t=7, rounding=nagd_numba.StochasticRounding(seed, 5))


def _check_states(found: Any) -> None:
    assert all(name.isidentifier() for name in found)


def _states_bits(found: Any) -> Any:
    return {
        name: [
            (x.codes.tobytes(), x.scales.tobytes())
            if isinstance(x, nagd_numba.Int8State)
            else repr(x)
            if isinstance(x, nagd_numba.StochasticRounding)
            else (x.dtype.str, x.shape, x.tobytes())
            for x in (found[name] if isinstance(found[name], list) else [found[name]])
        ]
        for name in sorted(found)
    }


def _sharded() -> ShardedStep:
    return ShardedStep(None, np.zeros(40, np.float32), "nesterov")


def _write_sharded(path: Path, seed: int) -> None:
    made = _sharded()
    made.step(np.random.default_rng(seed).normal(size=40).astype(np.float32))
    made.save(path, {"epoch": seed})


def _load_sharded(path: Path) -> Any:
    made = _sharded()
    try:
        return made, made.load(path)
    except BaseException:
        assert not made.params.any(), "params changed"
        assert made.t == 0, "t changed"
        raise


def _sharded_bits(found: Any) -> Any:
    made, extra = found
    return made.t, json.dumps(extra, sort_keys=True), made.params.tobytes(), [x.tobytes() for x in made.states.values()]


def _write_data(path: Path, seed: int) -> None:
    np.savez(path, X=np.arange(24.0).reshape(12, 2) + seed, y=np.array(["a", "b"])[np.arange(12) % 2])


def _write_table(path: Path, seed: int) -> None:
    lines = [f"{k + seed},{k * k / 7},{'ab'[k % 2]}" for k in range(14)]
    content = "\n".join(["width,height,kind", *lines, ""]).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _check_data(samples: Any) -> None:
    assert math.isfinite(samples.X.sum())
    assert samples.understood.isprintable()


KINDS = {
    "model": Kind("m.npz", _write_model, load_model, _check_model, _model_bits),
    "training": Kind("t.npz", _write_training, _resume, _check_training, _training_bits),
    "states": Kind("s.npz", _write_states, nagd_numba.load_states, _check_states, _states_bits),
    "sharded": Kind(
        "sharded", _write_sharded, _load_sharded, lambda _: None, _sharded_bits, lambda path: sorted(path.iterdir())
    ),
    "data": Kind("d.npz", _write_data, load_file, _check_data, None),
    "table": Kind("t.csv", _write_table, load_file, _check_data, None),
    "packed table": Kind("t.csv.gz", _write_table, load_file, _check_data, None),
}
