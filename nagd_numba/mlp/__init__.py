"""A multi-layer perceptron on one flat parameter vector: forward and backward passes, CPU and CUDA.

layout    where the weights and biases of each layer lie in the vector
cells     the scalar pieces that both targets share: activations, losses, dropout
passes    the loops between the matrix products on the CPU
cpu       the CPU kernels; matrix products by BLAS
cuda      their twins as CUDA kernels
device    checks, buffers and launches for these
checks    what is accepted, and the messages about what is not
model     the class `MLP`
"""

from .model import MLP

__all__ = ["MLP"]
