"""Trainings of the command line, and what is in their files."""

import numpy as np

from nagd_numba.cli.main import main


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
    return {name: value for name, value in content.items() if not name.endswith("/seconds")}
