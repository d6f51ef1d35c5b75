"""Adapters: the kernels behind the interfaces of other libraries, each imported only when its module is.

torch    optimizers of PyTorch
optax    transformations of optax, and steps for JAX
keras    optimizers of Keras 3
sklearn  estimators of scikit-learn
"""
