"""`python -m benchmarks.startup`: import time, and the main job cold and warm, each in processes of their own."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

IMPORTS = {
    "import numba": "import numba",
    "import numba, nagd_numba": "import numba, nagd_numba",
}
TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def import_seconds(statement: str) -> float:
    """Seconds that an import takes in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def train_seconds(cache: str) -> float:
    """Seconds of `nagd-numba train` as a whole process, with a disk cache in `cache`."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "nagd_numba", "train"],
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
    )
    return time.perf_counter() - start


def main() -> None:
    rounds = [{name: import_seconds(code) for name, code in IMPORTS.items()} for _ in range(16)][1:]
    for name in IMPORTS:
        print(f"{name}: {statistics.median(r[name] for r in rounds) * 1e3:.0f} ms")
    over = statistics.median(r["import numba, nagd_numba"] - r["import numba"] for r in rounds)
    print(f"nagd_numba over numba: {over * 1e3:.0f} ms")
    with tempfile.TemporaryDirectory() as cache:
        print(f"nagd-numba train, nothing cached: {train_seconds(cache):.1f} s")
        warm = [train_seconds(cache) for _ in range(5)]
    print(f"nagd-numba train, from the cache: {statistics.median(warm):.2f} s (of {len(warm)} runs)")


if __name__ == "__main__":
    main()
