"""Adapters: the kernels behind the interfaces of other libraries, each imported only when its module is.

`nagd_numba.adapters.sklearn`: estimators of scikit-learn.
`nagd_numba.adapters.optax`: transformations of optax, and steps for JAX.
"""
