"""`MLP`: a multi-layer perceptron that keeps its parameters outside, in one flat vector."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..flat import FlatParams
from ..kernels.aligned import aligned
from ..optimizers.seeds import generator
from ..validation import prefixed
from . import inference, layout
from .embed import compiled
from .fit import Trainable
from .spec import NetworkSpec

# Made once: these calls take a few microseconds.
_FORWARD, _PREDICT, _PREDICT_PROBA = map(prefixed, ("MLP.forward", "MLP.predict", "MLP.predict_proba"))
_LOSS, _VALUE_AND_GRAD = map(prefixed, ("MLP.loss", "MLP.value_and_grad"))


class MLP(Trainable):
    """A multi-layer perceptron: what it computes, on parameters that are yours, in one flat vector.

    With `h_0 = X` and dropout (while training) on hidden layers only,

        z_l = h_{l-1} W_l + b_l,    h_l = dropout(activation(z_l)),    outputs = z_L,

    and the loss is the mean below plus `l2/2` times the sum of all squared weights (not biases):

    ======================  =============================================  ==================================
    loss                    mean over                                      y
    ======================  =============================================  ==================================
    `cross_entropy`         samples, of `-log softmax(z)[y]`, or           integers or booleans, (n,); or
                            `-sum_j y_j log softmax(z)_j`                  probabilities, (n, outputs)
    `mse`                   samples and outputs, of `(z - y)^2`            (n, outputs); (n,) for one output;
                                                                           or labels (n,), one-hot
    `binary_cross_entropy`  samples and outputs, of `-y log s(z)           0 or 1, (n, outputs);
                            - (1-y) log s(-z)`, `s` the sigmoid            (n,) for one output
    ======================  =============================================  ==================================

    Probabilities are >= 0, and those of a sample sum to 1 (within 1e-5): one-hot labels, or soft ones.

    Parameters
    ----------
    sizes : sequence of int
        Widths of all layers, from the inputs to the outputs; at least two.
    activation : {"relu", "tanh", "sigmoid", "identity"}
        Of the hidden layers.
    loss : {"cross_entropy", "mse", "binary_cross_entropy"}
    dropout : float
        Share of the hidden units that are dropped while training, in [0, 1); the others are scaled by
        `1/(1 - dropout)`.
    l2 : float
        Weight of the penalty, finite, >= 0.
    dtype : {"float32", "float64"}
    precision : {"float32", "tf32"}
        "tf32": float32 networks on CUDA devices (compute capability 8.0 or later) multiply on tensor cores, see Notes.

    Attributes
    ----------
    sizes, activation, loss_name, dropout, l2, dtype, precision
        As given.
    size : int
        Number of parameters: the length of the flat vector.

    Raises
    ------
    TypeError, ValueError
        For unfit arguments.  All methods raise them before anything is written.

    Notes
    -----
    All methods but `fit` run where `params` is: on the CPU for NumPy arrays, by CUDA kernels for arrays with
    `__cuda_array_interface__`; `X` and `y` must be in the same place.  On the host `X` and `y` may have any real dtype
    and strides and are converted, uint8 (pictures) to a share of 255; on a device they must be contiguous, and `X` of
    the model's dtype.  CUDA work goes to the default stream.

    With `precision="tf32"` the matrix products of all methods take their factors rounded to TF32, which keeps 10 bits
    of the mantissa (to nearest, ties away from 0: `u = 2^-11`), and add in float32.  A sum of n products then differs
    from the exact one by at most

        ((1 + u)^2 (1 + 2^-23)^d - 1) sum |a| |b|,    d = min(n, 128) + ceil(n / 128),

    about 0.001 of the sum of the absolute values, without overflow or underflow (`nagd_numba.mlp.gpu.tf32`).
    Parameters, activations, losses and updates stay float32.  The order in which the hardware adds is not specified,
    but fixed: equal inputs give equal bits on one kind of device; they are not those of the CPU.  Host arrays are
    refused: the same parameters serve `MLP(..., precision="float32")`.  Networks that fit one multiprocessor should be
    trained in float32, which makes many steps in one launch; TF32 takes some launches for each.

    Equal inputs give equal bits, whatever the number of threads.  The first call for a dtype, activation and loss
    compiles for some seconds; later processes load the kernels from the disk cache.

    Dropout has no hidden state.  Whether unit `j` of hidden layer `l` (from 0) is dropped in row `i` is a function of
    (`dropout_seed`, `l`, `i * width + j`) alone, the same on every target: see `nagd_numba.mlp.dropout`.  Give every
    step another seed, for example its number.

    References
    ----------
    X. Glorot, Y. Bengio, AISTATS 2010; K. He et al., ICCV 2015 (initial weights); N. Srivastava et al., JMLR 15 (2014)
    1929 (dropout).

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    >>> y = np.array([0, 1, 1, 0])
    >>> net = nagd_numba.MLP([2, 8, 2], activation="tanh")
    >>> params = net.init(0)
    >>> grads, vel = np.zeros_like(params), np.zeros_like(params)
    >>> for _ in range(200):
    ...     loss, _ = net.value_and_grad(params, X, y, out=grads)
    ...     _ = nagd_numba.step(params, grads, vel, lr=0.3, momentum=0.9)
    >>> net.predict(params, X)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        sizes: Any,
        activation: str = "relu",
        loss: str = "cross_entropy",
        dropout: float = 0.0,
        l2: float = 0.0,
        dtype: Any = "float32",
        precision: str = "float32",
    ) -> None:
        with prefixed("MLP"):
            self.spec = NetworkSpec.checked(sizes, activation, loss, dropout, l2, dtype, precision)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of inputs, hidden units and outputs, layer by layer."""
        return self.spec.sizes

    @property
    def activation(self) -> str:
        """The activation of the hidden layers, by name."""
        return self.spec.activation

    @property
    def loss_name(self) -> str:
        """The loss, by name."""
        return self.spec.loss

    @property
    def dropout(self) -> float:
        """The share of hidden units that are dropped in training."""
        return self.spec.dropout

    @property
    def l2(self) -> float:
        """The weight of the penalty on squared weights."""
        return self.spec.l2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters and of all sums."""
        return self.spec.dtype

    @property
    def precision(self) -> str:
        """How products are made on a device: float32 or tf32."""
        return self.spec.precision

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.spec.size

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "spec" not in state:  # pickled by version 0.1.0 or before
            given = {name: state[name] for name in ("sizes", "activation", "dropout", "l2", "dtype")}
            spec = NetworkSpec(loss=state["loss_name"], precision=state.get("precision", "float32"), **given)
            state = {"spec": spec}
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return (
            f"MLP({list(self.sizes)}, activation={self.activation!r}, loss={self.loss_name!r}, "
            f"dropout={self.dropout}, l2={self.l2}, dtype={str(self.dtype)!r}"
            f"{', precision=' + repr(self.precision) if self.precision != 'float32' else ''})"
        )

    def init(self, seed: Any = None, *, rng: Any = None) -> np.ndarray:
        """New parameters, a NumPy vector of shape (size,).

        The weights of layers that end in relu are normal with variance `2/inputs` (He); all others uniform in
        `±sqrt(6/(inputs + outputs))` (Glorot).  Biases are 0.  `seed`, or `rng` in its place, is what
        `numpy.random.default_rng` takes: equal integers give equal parameters, one layer after the other; None is
        another vector each time.

        >>> net = MLP([3, 4, 2])
        >>> net.init(0).shape
        (26,)
        """
        if seed is not None and rng is not None:
            raise ValueError(f"MLP.init: seed is {seed!r}, and rng is given as well; leave one out")
        with prefixed("MLP.init"):
            random = generator(seed if rng is None else rng)
        params = aligned(self.spec.size, self.spec.dtype)  # products read it faster
        stack = list(layout.layers(self.spec.sizes))
        for layer in stack:
            shape = layer.inputs * layer.outputs
            if self.spec.activation == "relu" and layer is not stack[-1]:
                weights = random.normal(0.0, math.sqrt(2.0 / layer.inputs), shape)
            else:
                limit = math.sqrt(6.0 / (layer.inputs + layer.outputs))
                weights = random.uniform(-limit, limit, shape)
            params[layer.weights : layer.biases] = weights
        return params

    def unflatten(self, params: Any) -> FlatParams:
        """Views on `params` (or on a gradient): `W1` of shape (inputs, outputs), `b1` (outputs,), `W2`, …

        >>> net = MLP([3, 4, 2])
        >>> net.unflatten(net.init(0))["W2"].shape
        (4, 2)
        """
        with prefixed("MLP.unflatten"):
            return FlatParams(layout.named_shapes(self.sizes), self.dtype, params)

    def forward(self, params: Any, X: Any) -> Any:
        """The outputs of the last layer, without dropout: logits for the cross entropies.

        NaN in X or params gives NaN.

        Parameters
        ----------
        params : array of shape (size,)
            Of the model's dtype, contiguous.
        X : array of shape (n, sizes[0])
            At least one row.

        Returns
        -------
        array of shape (n, sizes[-1]) and the model's dtype, where `params` is; a Numba array on a device.

        Examples
        --------
        >>> net = MLP([2, 1], loss="mse", dtype="float64")
        >>> net.forward(np.array([2.0, 3.0, 0.5]), [[1, 1], [0, 1]])
        array([[5.5],
               [3.5]])
        """
        with _FORWARD:
            return inference.forward(self.spec, params, X)

    def predict_proba(self, params: Any, X: Any) -> Any:
        """Probabilities of shape (n, sizes[-1]): softmax over the outputs, or for binary_cross_entropy sigmoid of each.

        Parameters as for `forward`.  Raises ValueError for mse, which has no probabilities.

        >>> net = MLP([1, 2])
        >>> net.predict_proba(np.zeros(4, np.float32), [[1.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        with _PREDICT_PROBA:
            return inference.predict_proba(self.spec, params, X)

    def predict(self, params: Any, X: Any) -> Any:
        """What the network says of each row.

        cross_entropy: the label with the largest output, int64, (n,).  binary_cross_entropy: 1 where the logit is
        positive, int64, (n, sizes[-1]).  mse: the outputs.  Parameters as for `forward`.

        Raises ValueError where an output is NaN, which has no label: it says where X or params is not finite.  On a
        device, where that would mean to wait, and in `compiled` nothing is raised: the first NaN is the largest output.

        >>> net = MLP([1, 2])
        >>> net.predict(np.array([-1, 1, 0, 0], np.float32), [[2.0], [-2.0]])
        array([1, 0])
        """
        with _PREDICT:
            return inference.predict(self.spec, params, X)

    def compiled(self, name: str = "predict") -> Any:
        """`predict`, `predict_proba` or `forward` as a function for your own `@njit` code, without checks of dtypes.

        Returns `function(params, X)`, for contiguous arrays of the model's dtype in host memory; the values are those
        of the method of that name.  Its first call compiles.  Sizes that do not fit raise ValueError; in those threads
        of a `prange` whose exceptions numba drops, the values are NaN instead, and labels -1.

        >>> from numba import njit
        >>> net = MLP([1, 2])
        >>> predict = net.compiled("predict")
        >>> @njit
        ... def decide(params, x):
        ...     return predict(params, np.full((1, 1), x, np.float32))[0]
        >>> decide(np.array([-1, 1, 0, 0], np.float32), 2.0)
        1
        """
        with prefixed("MLP.compiled"):
            return compiled(self.spec, name)

    def loss(self, params: Any, X: Any, y: Any) -> float:
        """The mean loss with the penalty, without dropout, as a Python float.

        `params` and `X` as for `forward`; `y` as in the table of the class: any integer dtype for labels, any real one
        for the rest (on a device: the model's, or integers).  Raises ValueError for a label out of range.

        >>> net = MLP([1, 2])
        >>> round(net.loss(np.zeros(4, np.float32), [[1.0]], [1]), 6)
        0.693147
        """
        with _LOSS:
            return inference.loss(self.spec, params, X, y)

    def value_and_grad(
        self, params: Any, X: Any, y: Any, out: Any = None, dropout_seed: int | None = None
    ) -> tuple[float, Any]:
        """The loss and its gradient at `params`.

        Parameters
        ----------
        params, X, y : array
            As for `loss`.
        out : array of shape (size,), optional
            Where the gradient is written, of the model's dtype and in the same place as `params`; may share memory
            with none of the others.  By default a new array (on a device: Numba's).
        dropout_seed : int, optional
            In [0, 2**64).  Without it nothing is dropped, whatever the model's rate.

        Returns
        -------
        loss : float
        grads : array of shape (size,), laid out like `params`

        Examples
        --------
        >>> net = MLP([2, 1], loss="mse", dtype="float64")
        >>> net.value_and_grad(np.zeros(3), [[1.0, 2.0]], [3.0])
        (9.0, array([ -6., -12.,  -6.]))
        """
        with _VALUE_AND_GRAD:
            return inference.value_and_grad(self.spec, params, X, y, out, dropout_seed)
