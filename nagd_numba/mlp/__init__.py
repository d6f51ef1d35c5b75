"""A multi-layer perceptron on one flat parameter vector: forward and backward passes, CPU and CUDA, and training.

layout     where the weights and biases of each layer lie in the vector
cells      the scalar pieces that both targets share: activations, losses, dropout
tile       small matrix products in vector registers
pointers   bare addresses of arrays
products   products of matrices, with what is done to their elements while they are in a tile
passes     losses, probabilities, penalties
layers     the passes over all layers
bindings   binds these templates to a dtype, an activation, a loss, a rule
cpu        the kernels on the CPU: outputs, loss, gradient
compiled   what a network computes, for the user's own compiled code
batches    a batch gathered from the data
engine     the kernels of training: steps, evaluation, the order of the rows
trainer    memory and calls of these
pace       how much work a call is given, and on how many threads
samples    what training takes as data
course     rates, when to stop, measures
fit many   `MLP.fit` and `fit_many`
cuda       outputs, loss, gradient as CUDA kernels
device     checks, buffers and launches for these
checks     what is accepted, and the messages about what is not
model      the class `MLP`
"""

from .many import fit_many
from .model import MLP

__all__ = ["MLP", "fit_many"]
