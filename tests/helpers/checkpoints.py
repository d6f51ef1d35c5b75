"""Trainings of the command line, and what is in their files."""

import numpy as np

from nagd_numba.cli.main import main
from nagd_numba.io import npz


def write_clusters(path, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(90) % 3
    np.savez(path, X=random.normal(0, 0.8, (90, 2)) + np.array([[0, 0], [3, 0], [0, 3]])[y], y=y)
    return path


def run(*arguments):
    return main([str(word) for word in arguments])


def arrays(path):
    """What is in the file, to the bit."""
    with np.load(path) as file:
        return {name: (file[name].dtype.str, file[name].shape, file[name].tobytes()) for name in file.files}


def without_times(content):
    return {name: x for name, x in content.items() if not name.endswith("/seconds") and name != npz.DIGEST}


def rewrite(path, **changes):
    """Write the file anew, as the library writes it, with some arrays changed; those that are None are left out."""
    with np.load(path) as file:
        content = {name: file[name] for name in file.files if name != npz.DIGEST} | changes
    npz.write(path, {name: value for name, value in content.items() if value is not None})
