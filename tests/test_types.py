"""Types of the public functions: what mypy accepts and refuses, and what an editor shows."""

import inspect
import subprocess
import sys
import typing

import pytest

import nagd_numba

RIGHT = """
import numpy as np

from nagd_numba import MLP, fit_many, minimize, step

p, g, v = np.zeros((3, 10), np.float32)
step(p, g, v, lr=0.1, momentum=0.9)
net = MLP((4, 5, 3), activation="tanh")
params = net.init(0)
history = net.fit(params, np.zeros((8, 4)), np.zeros(8, np.int64), epochs=2, lr=0.1)
print(history["loss"], history.epochs + 1, net.size + 1)
fit_many(net, params[None], np.zeros((8, 4)), np.zeros(8, np.int64))
minimize(lambda x: float(x @ x), np.zeros(3), method="nag", tol=1e-6)
"""

WRONG = {
    'step(p, g, v, lr="fast")': "arg-type",
    "step(p, g, v, rate=0.1)": "call-arg",
    'net.fit(params, p, g, epochs="many")': "arg-type",
    "minimize(3, np.zeros(3))": "arg-type",
    "net.sise": "attr-defined",
}


def test_a_program_passes_and_wrong_calls_are_refused(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed: pip install '.[dev]'")
    (tmp_path / "program.py").write_text(RIGHT + "".join(f"{call}\n" for call in WRONG))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "program.py"]
    lines = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False).stdout.splitlines()
    for number, (call, code) in enumerate(WRONG.items(), RIGHT.count("\n") + 1):
        assert any(line.startswith(f"program.py:{number}: error") and f"[{code}]" in line for line in lines), call
    assert sum(": error: " in line for line in lines) == len(WRONG), "\n".join(lines)


@pytest.mark.parametrize("name", ["step", "adam_step", "minimize", "fit_many", "MLP", "FlatParams", "check_grad"])
def test_signatures_and_hints(name):
    function = getattr(nagd_numba, name)
    parameters = inspect.signature(function).parameters
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters.values())
    hints = typing.get_type_hints(function.__init__ if isinstance(function, type) else function)
    assert hints.keys() >= parameters.keys()


def test_step_in_an_editor():
    parameters = inspect.signature(nagd_numba.step).parameters
    assert list(parameters)[:5] == ["params", "grads", "vel", "lr", "momentum"]
    assert parameters["lr"].default == 0.01
    assert typing.get_type_hints(nagd_numba.step)["lr"] is float
