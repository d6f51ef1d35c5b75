"""A multi-layer perceptron on one flat parameter vector: forward and backward passes, CPU and CUDA.

layout    where the weights and biases of each layer lie in the vector
cells     the scalar pieces that both targets share: activations, losses, dropout
cpu       the passes as CPU kernels; matrix products by BLAS
cuda      their twins as CUDA kernels; device.py launches them
model     the class `MLP`
"""

from .model import MLP

__all__ = ["MLP"]
