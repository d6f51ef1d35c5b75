"""A multi-layer perceptron on one flat parameter vector: forward and backward passes, CPU and CUDA, and training.

spec         what a network is; layout: where its weights and biases lie in the vector
model        the class `MLP`; fit, many: `MLP.fit` and `fit_many`
activations, losses, dropout, elements, sums
             scalar functions and constants that all devices share
arguments    what is accepted, and the messages about what is not
dataset      samples, and which of them train; plan: how steps are made
backends     where a training happens: cpu or gpu
rates, stopping, metrics, progress
             hyper-parameters of every update, when to stop, what is recorded and shown
embed        a network inside users' compiled code
cpu, gpu     the kernels and what drives them
"""

from .many import fit_many
from .model import MLP

__all__ = ["MLP", "fit_many"]
