"""Compiled functions in the reference: Sphinx is shown the Python functions that they were made of."""

import nagd_numba


def setup(app):
    for name in nagd_numba.__all__:
        compiled = getattr(nagd_numba, name)
        if hasattr(compiled, "py_func"):
            setattr(nagd_numba, name, compiled.py_func)
    return {"parallel_read_safe": True}
