"""Real networks of PyTorch on the digits, and their training: for tests of optimizers."""

import copy

import torch

from nagd_numba.io.digits import read_digits


def convolutional():
    """Convolutions with batch normalisation: weights of four dimensions, buffers, vectors."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 16, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 10),
    )


class Recurrent(torch.nn.Module):
    """A GRU over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.cells = torch.nn.GRU(8, 24, batch_first=True)
        self.head = torch.nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.cells(x[:, 0])[1][0])


NETWORKS = {"convolutional": convolutional, "recurrent": Recurrent}


def made(name, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return NETWORKS[name]().to(dtype)


def batches(count, size=32, seed=0, dtype=torch.float32):
    """Images (size, 1, 8, 8) and their digits."""
    X, y = read_digits()
    X, y = torch.from_numpy(X).to(dtype).reshape(-1, 1, 8, 8) / 16, torch.from_numpy(y).long()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        chosen = torch.randint(len(X), (size,), generator=generator)
        yield X[chosen], y[chosen]


def step(network, optimizer, X, y):
    """One step of training; returns the loss."""
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(network(X), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def trained(network, make, steps=100, then=None, dtype=torch.float32):
    """A copy of a network, its optimizer, and the losses, after some steps; `then(optimizer)` follows each."""
    network = copy.deepcopy(network)
    optimizer = make(network.parameters())
    losses = []
    for X, y in batches(steps, dtype=dtype):
        losses.append(step(network, optimizer, X, y))
        if then is not None:
            then(optimizer)
    return network, optimizer, losses


def assert_same_tensors(xs, ys):
    """Equality to the last bit, the signs of zeros and NaNs included."""
    xs, ys = list(xs), list(ys)
    assert len(xs) == len(ys)
    for x, y in zip(xs, ys, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert bits(x) == bits(y)


def bits(x):
    x = x.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy().tobytes()  # NumPy has no bfloat16


def states(optimizer, key):
    """A state of every parameter."""
    return [optimizer.state[p][key] for group in optimizer.param_groups for p in group["params"]]


def parameters(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def with_gradients(params, seed):
    """Give parameters gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
