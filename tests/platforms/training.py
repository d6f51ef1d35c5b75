"""The training that every platform repeats: `python -m tests.platforms.training [--cuda]` prints what came out.

A network is trained with Nesterov's method on float32 (tanh, softmax, dropout, an L2 penalty, batches that end in a
smaller one), then 1,003 numbers are stepped with Adam on float64 (divisions, square roots).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from typing import Any

import numpy as np

import nagd_numba

SHA256 = "9b3c40cfc78705e3552f7055bd69d0c805ef9e8f827a35b19420819d613becb9"
FUSED = re.compile(r"\b(vfmadd|fmla|fmadd|fmaf)\w*\b(.*)")
REGISTERS = re.compile(r"[xyz]mm|\bv(?=\d+\.)|\bz(?=\d+\.)|\bs(?=\d)")


def result(cuda: bool = False) -> str:
    """The sha256 of the parameters, states and losses, trained here or, with `cuda`, by emulated kernels."""
    if not cuda:
        return _sha256(np.array, np.asarray)
    from tests.helpers import fake_driver

    with fake_driver.installed() as gpu:
        made = _sha256(gpu.array, gpu.download)
        assert len({launch[0] for launch in gpu.launches}) == 2  # a training of the whole network, and a step
        return made


def _sha256(place: Any, back: Any) -> str:
    rng = np.random.default_rng(0)
    X, y = (rng.integers(-8, 9, (100, 20)) / 8).astype(np.float32), rng.integers(0, 4, 100)
    net = nagd_numba.MLP([20, 17, 4], "tanh", dropout=0.2, l2=0.01)
    params, vel = place(net.init(0)), place(np.zeros(net.size, np.float32))
    history = net.fit(params, place(X), place(y), vel=vel, epochs=3, batch_size=32, lr=0.1)

    p, g = (rng.integers(-(2**20), 2**20, (2, 1003)) / 2**20).astype(np.float64)
    p, g, m, v = place(p), place(g), place(np.zeros(1003)), place(np.zeros(1003))
    for t in range(1, 4):
        nagd_numba.adam_step(p, g, m, v, t, lr=0.01)

    sha256 = hashlib.sha256()
    for x in (*map(back, (params, vel, p, m, v)), np.asarray(history.values("loss"))):
        assert np.isfinite(x).all()
        sha256.update(x.tobytes())
    return sha256.hexdigest()


def machine_code() -> list[str]:
    """How `a * b + c` with one rounding is computed in a loop: instructions and their registers, or a call of libm."""
    from numba import njit

    from nagd_numba.kernels.processor import widest_vectors
    from nagd_numba.kernels.rounding import fma

    @njit
    def loop(a, b, c):
        widest_vectors()
        for i in range(a.size):
            a[i] = fma(a[i], b[i], c[i])

    loop.compile("float32[::1], float32[::1], float32[::1]")
    (text,) = loop.inspect_asm().values()
    found = {(name, *REGISTERS.findall(rest)[:1]) for name, rest in FUSED.findall(text)}
    return sorted(map(" ".join, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuda", action="store_true", help="CUDA kernels, in the emulator")
    arguments = parser.parse_args()
    print(json.dumps({"sha256": result(arguments.cuda), "fused": [] if arguments.cuda else machine_code()}))


if __name__ == "__main__":
    main()
