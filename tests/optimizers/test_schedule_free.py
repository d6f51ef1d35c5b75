"""Schedule-free SGD and AdamW: the reference's points, its bits where its sum of weights is exact, and the theory."""

import math

import numpy as np
import pytest

import nagd_numba
from nagd_numba import schedule_free_adamw_step, schedule_free_eval, schedule_free_sgd_step, schedule_free_train
from nagd_numba.kernels.jit import plain
from nagd_numba.optimizers import schedule_free
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

N, STEPS = (20, 8) if JIT_OFF else (1003, 100)
WEIGHTS = plain(schedule_free.weights)


class Reference:
    """`schedulefree` 1.4 in the arithmetic of PyTorch: the operations of its `step`, `eval` and `train`."""

    def __init__(self, p, lr, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0, adam=None):
        self.torch = pytest.importorskip("torch")
        self.p = self.torch.from_numpy(p.copy())
        self.z, self.v = self.p.clone(), self.torch.zeros_like(self.p)
        self.lr, self.momentum, self.weight_decay, self.adam = lr, momentum, weight_decay, adam
        self.warmup, self.r, self.power = warmup_steps, r, weight_lr_power
        self.k, self.lr_max, self.total = 0, -1.0, 0.0

    def weight(self):
        """The learning rate and the weight of the next step, as carried sums."""
        lr = self.lr * ((self.k + 1) / self.warmup if self.k < self.warmup else 1.0)
        self.lr_max = max(lr, self.lr_max)
        weight = ((self.k + 1) ** self.r) * (self.lr_max**self.power)
        self.total += weight
        self.k += 1
        return lr, weight / self.total

    def step(self, g):
        g = self.torch.from_numpy(g.copy())
        lr, weight = self.weight()
        if self.adam is not None:
            beta2, eps = self.adam
            self.v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            g.div_(self.v.div(1 - beta2**self.k).sqrt_().add_(eps))
        if self.weight_decay != 0:
            g.add_(self.p, alpha=self.weight_decay)
        self.p.lerp_(end=self.z, weight=weight)
        self.p.add_(g, alpha=lr * (self.momentum * (1 - weight) - 1))
        self.z.sub_(g, alpha=lr)

    def eval(self):
        self.p.lerp_(end=self.z, weight=1 - 1 / self.momentum)

    def train(self):
        self.p.lerp_(end=self.z, weight=1 - self.momentum)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.ci)])
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.5, "weight_decay": 0.1, "momentum": 0.8},
        pytest.param({"lr": 1.0}, marks=pytest.mark.ci),
        pytest.param({"lr": 0.25, "momentum": 0.4, "weight_lr_power": 0.0}, marks=pytest.mark.ci),
    ],
)
def test_bits_of_the_reference_where_its_sum_is_exact(dtype, options):
    rng = np.random.default_rng(0)
    p = rng.normal(size=N).astype(dtype)
    reference, z = Reference(p, **options), np.full(N, np.nan, dtype)  # which the first step does not read
    for t in range(1, STEPS + 1):
        g = rng.normal(size=N).astype(dtype)
        reference.step(g)
        schedule_free_sgd_step(p, g, z, t, **options)
        assert_same_bits([p, z], [reference.p.numpy(), reference.z.numpy()])
    for move, of_reference in ((schedule_free_eval, reference.eval), (schedule_free_train, reference.train)):
        of_reference()
        assert move(p, z, options.get("momentum", 0.9)) is p
        assert_same_bits([p], [reference.p.numpy()])


@pytest.mark.parametrize(
    ("warmup_steps", "r", "power"),
    [(0, 0.0, 2.0), (7, 0.0, 2.0), (50, 0.5, 1.5), (0, 2.5, 0.0), (300, 7.5, 7.5), (90, 2.0, 1.0), (5, 1.0, 1.0)],
)
def test_weights_are_those_that_are_summed_up(warmup_steps, r, power):
    """`math.fsum` of the weights, each within 4 units in the last place of what it is."""
    terms = []
    for t in range(1, 1001):
        terms.append(t**r * min(t / warmup_steps, 1.0) ** power if warmup_steps else t**r)
        weight, part = WEIGHTS(float(t), float(warmup_steps), r, power)
        assert part == (min(t / warmup_steps, 1.0) if warmup_steps else 1.0)
        # Powers err by 16 log(1000) + 4 units, the formula by 5e-15; a difference is at most the sum.
        assert weight == pytest.approx(terms[-1] / math.fsum(terms), rel=120 * 2.0**-53 + 5e-15)
        assert (weight == 1) == (np.float32(weight) == 1) == (t == 1)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_course_of_the_package(kind):
    """The published package, if it is there, else its formulas: float64, gradients that depend on the course.

    A step has at most 12 roundings, each of a relative `2^-53` of a number of size 4 at most (squares are scaled by a
    root that is off by one unit more), the steps contract (the curvatures are in [0.1, 1], the rate times them below
    1), and the sums of weights differ by `t` units: 300 steps of 32 units of 4.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    curvature, target = rng.uniform(0.1, 1, N), rng.uniform(-1, 1, N)
    p = rng.uniform(-1, 1, N)
    options = (
        {"lr": 0.3, "warmup_steps": 20, "weight_decay": 0.01} if kind == "sgd" else {"lr": 0.01, "warmup_steps": 9}
    )
    adam = None if kind == "sgd" else (0.999, 1e-8)
    steps, states = 300 if not JIT_OFF else 5, [np.zeros(N) for _ in range(1 if adam is None else 2)]
    step = schedule_free_sgd_step if adam is None else schedule_free_adamw_step
    try:
        import schedulefree
    except ImportError:
        reference = Reference(p, adam=adam, **options)
        take, ended = reference.step, reference.eval
        now = reference.p.numpy()
    else:
        parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
        optimizer = getattr(schedulefree, {"sgd": "SGDScheduleFree", "adamw": "AdamWScheduleFree"}[kind])
        optimizer = optimizer([parameter], **options)
        optimizer.train()
        now, ended = parameter.detach().numpy(), optimizer.eval

        def take(g):
            parameter.grad = torch.from_numpy(g)
            optimizer.step()

    worst = 0.0
    for t in range(1, steps + 1):
        take(curvature * (now - target))
        step(p, curvature * (p - target), *states, t, **options)
        worst = max(worst, np.abs(p - now).max())
    ended()
    schedule_free_eval(p, states[0])
    assert max(worst, np.abs(p - now).max()) < steps * 32 * 4 * 2.0**-53
    assert np.abs(p - target).max() < (3 if steps == 5 else 0.3 if adam is None else 0.8)  # it went on


def test_moments_of_the_reference():
    """`v` to the last bit, and points within the unit of PyTorch's square root."""
    rng = np.random.default_rng(0)
    p = rng.normal(size=N).astype(np.float32)
    options = {"lr": 0.0625, "weight_decay": 0.125}
    reference, z, v = Reference(p, adam=(0.95, 1e-8), **options), np.zeros(N, np.float32), np.zeros(N, np.float32)
    for t in range(1, 5):
        g = rng.normal(size=N).astype(np.float32)
        reference.step(g)
        schedule_free_adamw_step(p, g, z, v, t, beta2=0.95, **options)
        assert_same_bits([v], [reference.v.numpy()])
    assert np.abs(p - reference.p.numpy()).max() < 4 * 8 * 2.0**-24


def test_x_is_the_weighted_mean_of_z():
    """Algorithm 1 of the paper: the mean is kept there, and found here."""
    rng = np.random.default_rng(1)
    y, z, points, momentum = rng.normal(size=20), np.zeros(20), [], 0.7
    for t in range(1, 41):
        schedule_free_sgd_step(y, rng.normal(size=20), z, t, lr=0.1, momentum=momentum, r=1.0)
        points.append(z.copy())
    want = np.average(points, axis=0, weights=np.arange(1, 41))
    x = schedule_free_eval(y.copy(), z, momentum)
    assert np.abs(x - want).max() < 1e-13
    np.testing.assert_allclose(y, (1 - momentum) * z + momentum * x, rtol=0, atol=1e-14)
    assert nagd_numba.schedule_free_x(y[3], z[3], momentum) == x[3]


@pytest.mark.ci
def test_the_best_rate_of_averages_without_knowing_the_end():
    """|x|, whose gradient has the size 1: `f(x_t) <= |x_0| / sqrt(t)` at `lr = |x_0| / sqrt(T)`, as the theory says."""
    y, z, steps = np.array([1.0]), np.zeros(1), 400
    for t in range(1, steps + 1):
        schedule_free_sgd_step(y, np.sign(y), z, t, lr=1 / math.sqrt(steps), momentum=0.9)
    assert abs(schedule_free_eval(y, z)[0]) < 1 / math.sqrt(steps)


@pytest.mark.parametrize(
    "kind", [pytest.param("sgd", marks=pytest.mark.ci), pytest.param("adamw", marks=pytest.mark.slow)]
)
def test_bounds_hold_for_every_point_and_the_solution_is_found(kind):
    rng = np.random.default_rng(5)
    A = rng.normal(size=(40, 12))
    Q, c = A.T @ A / 40, A.T @ rng.normal(size=40) / 40 * 8
    optimize = pytest.importorskip("scipy.optimize")
    found = optimize.minimize(
        lambda x: (x @ Q @ x / 2 - c @ x, Q @ x - c), np.zeros(12), jac=True, bounds=[(-0.25, 0.5)] * 12,
        method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-12},
    )  # fmt: skip
    y, states = np.zeros(12), [np.zeros(12) for _ in range(1 if kind == "sgd" else 2)]
    step = schedule_free_sgd_step if kind == "sgd" else schedule_free_adamw_step
    for t in range(1, 6001):
        lr = 1 / np.linalg.eigvalsh(Q).max() if kind == "sgd" else 0.01
        step(y, Q @ y - c, *states, t, lr=lr, lower=-0.25, upper=0.5)
        assert ((states[0] >= -0.25) & (states[0] <= 0.5) & (y >= -0.25) & (y <= 0.5)).all()
    x = schedule_free_eval(y.copy(), states[0])
    # x is the mean of all z, and Adam's z goes at least lr / 2 a step on its way of 0.5:
    # (0.5 / 2) * (0.5 / (lr / 2)) / 6000.
    assert np.abs(x - found.x).max() < (2e-3 if kind == "sgd" else 0.5**2 / 0.01 / 6000)


def test_an_element_at_no_bound_has_the_bits_of_the_plain_step():
    rng = np.random.default_rng(6)
    y, g = rng.normal(size=50), rng.normal(size=50)
    plain_y, bound_y, plain_z, bound_z = y.copy(), y.copy(), np.zeros(50), np.zeros(50)
    for t in (1, 2, 3):
        schedule_free_sgd_step(plain_y, g, plain_z, t, lr=0.1)
        schedule_free_sgd_step(bound_y, g, bound_z, t, lr=0.1, lower=-100.0, upper=100.0)
    assert_same_bits([bound_y, bound_z], [plain_y, plain_z])


@pytest.mark.parametrize("step", [schedule_free_sgd_step, schedule_free_adamw_step])
def test_a_number_of_warmup_steps_may_be_a_float(step):
    made = []
    for warmup_steps in (4, 4.0, np.float64(4)):
        arrays = [np.ones(5), np.full(5, 0.5), *(np.zeros(5) for _ in range(1 + (step is schedule_free_adamw_step)))]
        for t in (1, 2, 3):
            step(*arrays, t, lr=0.1, warmup_steps=warmup_steps)
        made.append(arrays)
    assert_same_bits(made[1], made[0])
    assert_same_bits(made[2], made[0])


def test_lists_and_views_go_from_y_to_x():
    y, z = [np.ones(3), np.ones((2, 2))], [np.zeros(3), np.zeros((2, 2))]
    assert schedule_free_eval(y, z, 0.5) is y
    assert all((x == 2).all() for x in y)
    wide = np.ones((4, 6))
    schedule_free_eval(wide[:, ::2], np.zeros((4, 3)), 0.5)
    assert (wide[:, ::2] == 2).all()
    assert (wide[:, 1::2] == 1).all()


def test_refusals():
    y, z = np.ones(4), np.zeros(4)
    for arguments, error, message in [
        ((y, z, 0.0), ValueError, "schedule_free_eval: momentum is 0.0; a finite number >= 0.001 and < 1 is needed"),
        ((y, z, "half"), TypeError, "schedule_free_eval: momentum is 'half'; a number is needed"),
        ((y, z[1:]), ValueError, r"schedule_free_eval: z has shape \(3,\)"),
        ((y, z.astype(np.float32)), TypeError, "schedule_free_eval: z has dtype float32"),
    ]:
        with pytest.raises(error, match=f"^{message}"):
            schedule_free_eval(*arguments)
    for keywords, message in [
        ({"momentum": 0.0}, "momentum is 0.0; a finite number >= 0.001 and < 1"),
        ({"warmup_steps": 1.5}, "warmup_steps is 1.5; "),
        ({"warmup_steps": -1.0}, "warmup_steps is -1; "),
        ({"warmup_steps": float("inf")}, "warmup_steps is inf; "),
        ({"r": 8.0}, "r is 8.0; a finite number >= 0 and < 8"),
        ({"t": 0}, "t is 0; a whole number >= 1"),
    ]:
        with pytest.raises((TypeError, ValueError), match=f"^schedule_free_sgd_step: {message}"):
            schedule_free_sgd_step(y, y.copy(), z, **{"t": 1, **keywords})
    with pytest.raises(ValueError, match="schedule_free_sgd_step, whose state does not begin with zeros"):
        nagd_numba.int8_states(schedule_free_sgd_step, y)
    assert (y == 1).all()
    assert not z.any()
