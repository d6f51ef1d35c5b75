"""`MLP`: a multi-layer perceptron that keeps its parameters outside, in one flat vector."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import validation
from ..flat import FlatParams
from ..history import History
from ..kernels import threading_layer
from ..kernels.jit import SIMULATOR
from . import arguments, layout
from .cpu import inference
from .fit import fit
from .spec import NetworkSpec

PARALLEL_FLOP = 2e7  # of `forward`, from which on two threads beat one

_NO_SEED = np.uint64(0)


class MLP:
    """A multi-layer perceptron: what it computes, on parameters that are yours, in one flat vector.

    With `h_0 = X` and dropout (while training) on hidden layers only,

        z_l = h_{l-1} W_l + b_l,    h_l = dropout(activation(z_l)),    outputs = z_L,

    and the loss is the mean below plus `l2/2` times the sum of all squared weights (not biases):

    ======================  =============================================  ==================================
    loss                    mean over                                      y
    ======================  =============================================  ==================================
    `cross_entropy`         samples, of `-log softmax(z)[y]`               integer labels, (n,)
    `mse`                   samples and outputs, of `(z - y)^2`            (n, outputs); (n,) for one output;
                                                                           or integer labels (n,), one-hot
    `binary_cross_entropy`  samples and outputs, of `-y log s(z)           0 or 1, (n, outputs);
                            - (1-y) log s(-z)`, `s` the sigmoid            (n,) for one output
    ======================  =============================================  ==================================

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
        self.spec = NetworkSpec.checked(sizes, activation, loss, dropout, l2, dtype, precision)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.spec.sizes

    @property
    def activation(self) -> str:
        return self.spec.activation

    @property
    def loss_name(self) -> str:
        return self.spec.loss

    @property
    def dropout(self) -> float:
        return self.spec.dropout

    @property
    def l2(self) -> float:
        return self.spec.l2

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.spec.dtype

    @property
    def precision(self) -> str:
        return self.spec.precision

    @property
    def size(self) -> int:
        return self.spec.size

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "spec" not in state:  # pickled by version 0.1.0 or before
            names = ("sizes", "activation", "loss_name", "dropout", "l2", "dtype")
            state = {"spec": NetworkSpec(*(state[name] for name in names), state.get("precision", "float32"))}
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return (
            f"MLP({list(self.sizes)}, activation={self.activation!r}, loss={self.loss_name!r}, "
            f"dropout={self.dropout}, l2={self.l2}, dtype={str(self.dtype)!r}"
            f"{', precision=' + repr(self.precision) if self.precision != 'float32' else ''})"
        )

    def init(self, seed: int | None) -> np.ndarray:
        """New parameters, a NumPy vector of shape (size,).

        The weights of layers that end in relu are normal with variance `2/inputs` (He); all others uniform in
        `±sqrt(6/(inputs + outputs))` (Glorot).  Biases are 0.  Equal seeds give equal parameters
        (`numpy.random.default_rng(seed)`, one layer after the other).

        >>> net = MLP([3, 4, 2])
        >>> net.init(0).shape
        (26,)
        """
        random = np.random.default_rng(seed)
        params = np.zeros(self.spec.size, self.spec.dtype)
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
        return FlatParams(layout.named_shapes(self.spec.sizes), self.spec.dtype, params)

    def forward(self, params: Any, X: Any) -> Any:
        """The outputs of the last layer, without dropout: logits for the cross entropies.

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
        if self._on_device(params=params, X=X):
            return _device().forward(self.spec, params, X)
        params, X = arguments.parameters(self.spec, params), arguments.inputs(self.spec, X)
        out = np.empty((X.shape[0], self.spec.sizes[-1]), self.spec.dtype)
        parallel = 2.0 * len(X) * self.spec.size >= PARALLEL_FLOP and threading_layer.parallel_allowed()
        inference.forward_kernel(self.spec.dtype_name, self.spec.activation, parallel)(params, X, self.spec.dims, out)
        return out

    def predict_proba(self, params: Any, X: Any) -> Any:
        """Probabilities of shape (n, sizes[-1]): softmax over the outputs, or for binary_cross_entropy sigmoid of each.

        Parameters as for `forward`.  Raises ValueError for mse, which has no probabilities.

        >>> net = MLP([1, 2])
        >>> net.predict_proba(np.zeros(4, np.float32), [[1.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
        if self.spec.loss == "mse":
            raise ValueError("loss is 'mse', whose outputs are no probabilities; use predict or forward")
        if self._on_device(params=params, X=X):
            return _device().predict_proba(self.spec, params, X)
        z = self.forward(params, X)
        inference.probability_kernel(self.spec.dtype_name, self.spec.loss)(z)
        return z

    def predict(self, params: Any, X: Any) -> Any:
        """What the network says of each row.

        cross_entropy: the label with the largest output, int64, (n,).  binary_cross_entropy: 1 where the logit is
        positive, int64, (n, sizes[-1]).  mse: the outputs.  Parameters as for `forward`.

        >>> net = MLP([1, 2])
        >>> net.predict(np.array([-1, 1, 0, 0], np.float32), [[2.0], [-2.0]])
        array([1, 0])
        """
        if self.spec.loss == "mse":
            return self.forward(params, X)
        if self._on_device(params=params, X=X):
            return _device().predict(self.spec, params, X)
        z = self.forward(params, X)
        return z.argmax(axis=1) if self.spec.loss == "cross_entropy" else (z > 0).astype(np.int64)

    def compiled(self, name: str = "predict") -> Any:
        """`predict`, `predict_proba` or `forward` as a function for your own `@njit` code, without checks of dtypes.

        Returns `function(params, X)`, for contiguous arrays of the model's dtype in host memory; the values are those
        of the method of that name.  Its first call compiles.

        >>> from numba import njit
        >>> net = MLP([1, 2])
        >>> predict = net.compiled("predict")
        >>> @njit
        ... def decide(params, x):
        ...     return predict(params, np.full((1, 1), x, np.float32))[0]
        >>> decide(np.array([-1, 1, 0, 0], np.float32), 2.0)
        1
        """
        from .embed import compiled

        arguments.host_precision(self.spec)
        return compiled(self.spec, name)

    def loss(self, params: Any, X: Any, y: Any) -> float:
        """The mean loss with the penalty, without dropout, as a Python float.

        `params` and `X` as for `forward`; `y` as in the table of the class: any integer dtype for labels, any real one
        for the rest (on a device: the model's, or integers).  Raises ValueError for a label out of range.

        >>> net = MLP([1, 2])
        >>> round(net.loss(np.zeros(4, np.float32), [[1.0]], [1]), 6)
        0.693147
        """
        if self._on_device(params=params, X=X, y=y):
            return _device().loss(self.spec, params, X, y)
        params, X = arguments.parameters(self.spec, params), arguments.inputs(self.spec, X)
        y = arguments.targets(self.spec, y, X.shape[0])
        kernel = inference.value_kernel(self.spec.dtype_name, self.spec.activation, self.spec.loss)
        value, bad = kernel(params, X, y, self.spec.dims, self.spec.l2)
        if bad >= 0:
            arguments.refuse_targets(self.spec, y, one_hot=False)
        return float(value)

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
        seed = None if dropout_seed is None else arguments.seed("dropout_seed", dropout_seed)
        if self.spec.dropout == 0:
            seed = None
        if self._on_device(params=params, X=X, y=y, out=out):
            return _device().value_and_grad(self.spec, params, X, y, out, seed)
        params, X = arguments.parameters(self.spec, params), arguments.inputs(self.spec, X)
        y = arguments.targets(self.spec, y, X.shape[0])
        if out is None:
            grads = out = np.empty(self.spec.size, self.spec.dtype)
        else:
            grads = arguments.parameters(self.spec, out, "out", write=True)
            arguments.apart(grads, params=params, X=X, y=y)
        kernel = inference.gradient_kernel(self.spec.dtype_name, self.spec.activation, self.spec.loss, seed is not None)
        value, bad = kernel(
            *(params, X, y, grads, self.spec.dims, self.spec.l2),
            *(_NO_SEED if seed is None else seed, self.spec.threshold, 1.0 - self.spec.dropout),
        )
        if bad >= 0:
            arguments.refuse_targets(self.spec, y, one_hot=False)
        validation.tell_torch(out)
        return float(value), out

    def fit(
        self,
        params: Any,
        X: Any,
        y: Any,
        epochs: int = 20,
        batch_size: int = 32,
        lr: Any = 0.05,
        momentum: Any = 0.9,
        progress: bool = False,
        optimizer: str = "nag",
        *,
        vel: Any = None,
        seed: int = 0,
        shuffle: bool = True,
        sample_weight: Any = None,
        validation: Any = None,
        metrics: Any = (),
        patience: int | None = None,
        min_gain: float = 0.0,
        target_loss: float | None = None,
        time_budget: float | None = None,
        keep: str = "last",
        clip: float | None = None,
        accumulate: int = 1,
        callback: Any = None,
        history: History | None = None,
    ) -> History:
        """Train `params` in place, compiled, and return the course of the training.

        Every epoch passes over the rows in a new order, in batches; each batch makes one update

            v <- momentum v + g;    params <- params - lr (g + momentum_next v)        optimizer="nag"

        with the gradient `g` of the mean loss of the batch, and `momentum_next` the momentum of the next update (equal
        unless a schedule says otherwise).  "momentum" is `params - lr v`, "gd" is `params - lr g`; "adam", "adamw" and
        "nadam" are `nagd_numba.adam_step`, ... with `beta1` the momentum and their other defaults.

        Parameters
        ----------
        params : array of shape (size,)
            Modified in place; of the model's dtype, contiguous.  In the memory of a CUDA device the training happens
            there, to the same bits (with `precision="tf32"`, to others; validation is float32 on the CPU then, too);
            `X` and `y` may then be there too, or are copied there once.
        X : array of shape (n, sizes[0])
            float32, float64 or uint8 (divided by 255) are read as they are, a batch at a time, so a memory-mapped
            `.npy` may be larger than memory (in C order); other real dtypes are converted at once.
        y : array
            As for `loss`.
        epochs : int
            Epochs in all, those in `history` included.
        batch_size : int
            Rows of a batch; the last of an epoch has the rest.
        lr, momentum : float, nagd_numba.schedules.Schedule, or function of the number of the update
            Finite, >= 0.
        progress : bool
            Show a bar.
        optimizer : {"nag", "momentum", "gd", "adam", "adamw", "nadam"}
            The last three in host memory only.  They want another `lr`: 0.001 is usual.
        vel : array of shape (size,), optional
            The velocity, modified in place; zeros by default.  With "adam", "adamw", "nadam" of shape (2 size,): `m`,
            then `v`.
        seed : int
            Decides the order of the rows, the dropout, and which rows a share for validation takes.
        shuffle : bool
            False: every epoch takes the rows as they are.
        sample_weight : array of shape (n,), optional
            Weights of the samples in the mean of a batch, finite, >= 0.
        validation : float, or (X, y), or (X, y, sample_weight), optional
            A share of the rows that is held back, or data of its own; evaluated after every epoch.
        metrics : sequence of {"accuracy", "mae", "mse"}
            Recorded for the training batches as they pass, and for the validation data.
        patience : int, optional
            Stop after so many epochs in which the watched loss (of the validation data, or without them of the
            training) was not below its best by more than `min_gain`.
        target_loss : float, optional
            Stop when the watched loss is at most this.
        time_budget : float, optional
            Stop after the epoch in which so many seconds have passed.
        keep : {"last", "best"}
            Which parameters to end with: the last ones, or those with the lowest watched loss (`vel` is the last one).
        clip : float, optional
            Gradients with a larger Euclidean norm are scaled down to it.
        accumulate : int
            Batches whose gradients make one update together, as if they were one batch.
        callback : function of the History, optional
            Called after every epoch; stops the training if it returns a true value.
        history : History, optional
            The history of a training to continue (with its `params`, `vel`, `seed` and everything else): what follows
            is bit for bit what would have followed without a break.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError
            For unfit arguments, before anything is written.
        KeyboardInterrupt
            Within about 0.1 s of Ctrl-C, between two updates; `params` and `vel` are then those of the last update.

        Notes
        -----
        Velocities below the smallest normal number are set to 0 (processors are slow with them); but for that, training
        is a loop of `value_and_grad` and `nagd_numba.step`, to the last bit.

        Equal arguments give equal bits: neither the number of threads, nor the progress bar, nor the load of the
        machine has any influence (but for `time_budget`).  The memory of a training is allocated once, before its
        first epoch.  A training whose loss is no longer finite stops, with a warning; `history.stopped` says why a
        training ended early.

        Examples
        --------
        >>> import nagd_numba
        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        >>> net = nagd_numba.MLP([1, 16, 1], activation="tanh", loss="mse")
        >>> params = net.init(0)
        >>> history = net.fit(params, X, X[:, 0] ** 2, epochs=200, batch_size=16, lr=0.1)
        >>> history.last("loss") < 1e-3
        True
        """
        return fit(
            self.spec,
            params,
            X,
            y,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            momentum=momentum,
            progress=progress,
            optimizer=optimizer,
            vel=vel,
            seed=seed,
            shuffle=shuffle,
            sample_weight=sample_weight,
            validation=validation,
            metrics=metrics,
            patience=patience,
            min_gain=min_gain,
            target_loss=target_loss,
            time_budget=time_budget,
            keep=keep,
            clip=clip,
            accumulate=accumulate,
            callback=callback,
            history=history,
        )

    def _on_device(self, params: Any, **others: Any) -> bool:
        there = type(params) is not np.ndarray or any(map(validation.is_device_array, others.values()))
        if there:
            named = [("params", params), *((name, x) for name, x in others.items() if x is not None)]
            there = validation.any_on_device(named)
        if not there:
            arguments.host_precision(self.spec)
        return there


@functools.cache
def _device() -> Any:
    if SIMULATOR:
        return _Simulated()
    from .gpu import inference  # imports numba.cuda

    return inference


class _Simulated:
    """The same functions for the simulator's device arrays, which lie in host memory: the CPU works on them there."""

    def __getattr__(self, name: str) -> Any:
        from numba import cuda

        def run(spec: NetworkSpec, *given: Any) -> Any:
            model = MLP.__new__(MLP)
            model.spec = spec
            made = getattr(model, name)(*(getattr(x, "_ary", x) for x in given))
            if name == "value_and_grad":
                value, grads = made
                return value, cuda.to_device(grads) if given[3] is None else given[3]
            return made if name == "loss" else cuda.to_device(made)

        return inference
