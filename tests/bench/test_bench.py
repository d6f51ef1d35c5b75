"""`nagd-numba bench` and its parts: timing that is never cold, contenders that do the same, truthful tables."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from nagd_numba.bench import command, inference, products, report, sections, steps, timing
from nagd_numba.bench.contenders import Missing
from nagd_numba.bench.digits import Case, those_there
from nagd_numba.bench.promises import PROMISES
from nagd_numba.bench.sections import Row
from nagd_numba.cli import main


class Clock:
    """Time that passes only by calls of contenders."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def contender(self, costs, default):
        """A call that takes `costs`, one after the other, and then `default`."""
        rest = list(costs)

        def call():
            self.now += rest.pop(0) if rest else default

        return call


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=found.perf_counter, sleep=found.sleep))
    return found


def test_nothing_is_timed_cold(clock):
    """The first call compiles, and those of the first second are slow: no timing has any of it."""
    warm = {"a": 1e-3, "b": 4e-3}
    contenders = {name: clock.contender([7.0, *[0.1] * 4], cost) for name, cost in warm.items()}
    seconds = timing.interleaved(contenders, rounds=4)
    for name, cost in warm.items():
        assert len(seconds[name]) == 4
        np.testing.assert_allclose(seconds[name], cost, rtol=1e-9)


def test_a_long_first_call_is_no_warm_up(clock):
    """A second is warmed up after everybody has compiled, however long that took."""
    calls = []
    contender = clock.contender([100.0], 0.01)
    timing.interleaved({"a": lambda: (contender(), calls.append(clock.now))}, rounds=1)
    timed = round(timing.ROUND_SECONDS / 0.01)
    warm_up = calls[1 : -timed - 1]
    assert warm_up[-1] - calls[0] >= timing.WARM_UP - 0.02


def test_contenders_take_turns(clock):
    order = []
    contenders = {name: lambda name=name: (order.append(name), clock.sleep(0.1)) for name in "abc"}
    timing.interleaved(contenders, rounds=3)
    assert order[-9:] == list("abcabcabc")


def test_steps_of_a_call_share_its_time(clock):
    call = timing.Repeated(clock.contender([], 0.1), 50)
    assert timing.interleaved({"a": call}, rounds=1)["a"] == pytest.approx([0.002])


def test_a_bad_round_does_not_change_a_ratio():
    seconds = {"a": [1.0, 100.0, 1.0], "b": [2.0, 2.0, 2.0]}
    assert timing.ratio(seconds, "b", "a") == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in steps.ALL if name not in ("ours", "moved bytes")])
def test_contenders_make_the_same_step(name, dtype):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=100).astype(dtype) for _ in range(2)] + [np.zeros(100, dtype)]
    ours, theirs = ([x.copy() for x in start] for _ in range(2))
    try:
        call = steps.ALL[name](theirs)
    except Missing as error:
        pytest.skip(str(error))
    calls = 1 if name == "torch foreach" else 3  # it changes the gradient
    for _ in range(calls):
        call()
    step = steps.ours(ours)
    for _ in range(calls * getattr(call, "steps", 1)):
        step()
    params = np.asarray(getattr(call, "params", theirs[0]))
    np.testing.assert_allclose(params, ours[0], rtol=1e-5 if dtype == "float32" else 1e-13)
    assert not np.array_equal(params, start[0])


@pytest.mark.parametrize("name", [name for name in steps.ADAM if name not in ("ours", "moved bytes")])
def test_contenders_make_the_same_step_of_adam(name):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=100).astype(np.float32) for _ in range(2)] + [np.zeros(100, np.float32) for _ in range(2)]
    ours, theirs = ([x.copy() for x in start] for _ in range(2))
    try:
        call = steps.ADAM[name](theirs)
    except Missing as error:
        pytest.skip(str(error))
    step = steps.OurAdam(ours)
    for _ in range(3):
        call()
        step()
    params = np.asarray(getattr(call, "params", theirs[0]))
    moved = np.abs(ours[0] - start[0]).max()
    np.testing.assert_allclose(params, ours[0], rtol=0, atol=1e-4 * moved)  # Dr.Jit's inverse root is an approximation


def test_the_chains_of_the_processors_limit_are_all_there():
    rounds, x = 7, 0.5
    wanted = sum(start + rounds * x * x for start in range(products.CHAINS))
    assert products.chains(rounds, np.float32(x)) == wanted


def test_gradients_of_the_peers_are_the_same():
    case = Case(32, 16)
    contenders, missing = those_there(inference.GRADIENTS, case)
    if "JAX" in missing:
        pytest.skip(missing["JAX"])
    loss, _ = contenders["ours"]()
    np.testing.assert_allclose(contenders["JAX"]()[0], loss, rtol=1e-5)


def row(case, ours, **others):
    """A row as if measured in one round."""
    seconds = {"ours": [ours], **{name: [value] for name, value in others.items()}}
    return Row(dict(case)).put(seconds, 0.0)


def results():
    step = row({"n": 1000, "dtype": "float32"}, 1e-6, NumPy=2.5e-6, **{"torch fused": 150e-6})
    step.more["gb_per_s"] = {"ours": 20.0, "NumPy": 8.0, "torch fused": 0.1, "moved bytes": 25.0}
    step.missing["numexpr"] = "numexpr is not installed"
    training = row({"batch": 32, "hidden": 32}, 7e-6, JAX=13e-6)
    training.more |= {"flop": 1e5, "bytes": 1e4}
    adam = row({"n": 1000, "dtype": "float32"}, 2e-6, Warp=90e-6)
    adam.more["gb_per_s"] = {"ours": 14.0, "Warp": 0.3}
    limits = [
        Row({"limit": "multiply-adds in registers"}, more={"gflops": {"one thread": 80.0, "all threads": 150.0}}),
        Row({"limit": "matrix product, NumPy's BLAS"}, more={"gflops": {"all threads": 130.0}}),
        Row({"limit": "bytes of a step, far more"}, more={"gb_per_s": {"one thread": 10.0, "all threads": 20.0}}),
    ]
    about = {"date": "2026-01-01", "commit": "0" * 40, "versions": {"python": "3"}, "skipped": {}, "machine": {}}
    about["machine"] = {"processor": "P", "cores": 2, "numba_threads": 2}
    return {**about, "sections": {"step": [step], "adam": [adam], "training": [training], "limits": limits}}


def test_json_and_back(tmp_path):
    report.write_json(tmp_path / "a.json", results())
    assert report.read_json(tmp_path / "a.json")["sections"] == results()["sections"]
    (tmp_path / "b.json").write_text('{"schema": 99}')
    with pytest.raises(ValueError, match=r"b\.json: not a file of `nagd-numba bench --json`"):
        report.read_json(tmp_path / "b.json")


def test_tables():
    rows = results()["sections"]["step"]
    table = report.tabled("step", rows)
    assert table.headings == ["n", "ours", "GB/s", "NumPy", "torch fused"]
    assert table.lines == [["1,000", "1 us", "20", "2.5", "150"]]
    assert table.missing == ["numexpr: numexpr is not installed"]
    promised = report.tabled("step", rows, promises=True)
    assert promised.lines[0][3:] == ["2.5 [1.5]", "150 [8]"]
    assert report.markdown(promised).splitlines()[2] == "| 1,000 | 1 us | 20 | 2.5 [1.5] | 150 [8] |"
    rows[0].more["others"] = 1.5
    assert "Other processes kept up to 1.50 cores busy" in report.tabled("step", rows).note


def test_durations():
    assert [report.duration(s) for s in (1.234e-7, 9.994e-4, 9.996e-4, 0.5, 12.34)] == [
        "0.123 us",
        "999 us",
        "1 ms",
        "500 ms",
        "12.3 s",
    ]


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from nagd_numba.bench.picture import plot

    plot(tmp_path / "all.png", results())
    plot(tmp_path / "none.svg", {**results(), "sections": {}})
    assert {path.name for path in tmp_path.iterdir()} == {"all.png", "none.svg"}


def test_no_text_of_the_picture_is_cut_or_covers_another():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from nagd_numba.bench.picture import drawn

    figure = drawn(results())
    FigureCanvasAgg(figure).draw()
    texts = list(figure.texts)
    for axes in figure.axes:
        inside = [*axes.texts, *axes.get_legend().get_texts()]
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *inside]
        upright = [
            (text.get_text(), text.get_window_extent()) for text in inside if not text.get_transform_rotates_text()
        ]
        for k, (name, box) in enumerate(upright):
            assert not any(box.overlaps(other) for _, other in upright[:k]), name
    for text in texts:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    words = " ".join(text.get_text() for text in texts)
    for wanted in ("memory: 20 GB/s", "caches: 25 GB/s", "registers: 150 GFLOP/s", "32×32", "limit", "2026-01-01"):
        assert wanted in words


def test_what_is_left_out_is_told(monkeypatch, capsys):
    """After the budget, and where a peer trains something else, there is a reason instead of a figure."""

    def measured(found):
        found.put({"ours": [1e-6], "NumPy": [2e-6]}, 0.0)
        found.more["gb_per_s"] = {"ours": 1.0}

    def differs(found):
        raise Missing("the losses differ")

    step = [({"n": n, "dtype": "float32"}, measured) for n in (10, 1000)]
    monkeypatch.setattr(
        command, "SECTIONS", {"step": ("steps", lambda: step), "training": ("t", lambda: [({"batch": 1}, differs)])}
    )
    from nagd_numba.cli.output import console

    found = command.measure(console(), ("step", "training"), 100.0)
    assert [str(x) for x in found["sections"]["step"]] == ["n 10, float32", "n 1,000, float32"]
    assert found["skipped"] == {"training: batch 1": "the losses differ"}
    assert "skipped: training: batch 1: the losses differ" in capsys.readouterr().out
    found = command.measure(console(), ("step",), budget=0.0)
    assert found["sections"] == {}
    assert set(found["skipped"]) == {"training", "step: n 10, float32", "step: n 1,000, float32"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--only", "steps"],
            "--only steps: some of step, adam, training, networks, prediction, adapters, limits are needed",
        ),
        (["--json", "no/such/folder/a.json"], "--json: "),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_measured(arguments, message, capsys):
    assert main.main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"nagd-numba bench: error: {message}")


def test_the_command(tmp_path):
    """Everything runs, with figures that mean nothing."""
    env = {**os.environ, "NAGD_NUMBA_QUICK_BENCH": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "nagd_numba", "bench", "--only", "limits,step", "--json", "out.json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found["sections"]) == ["step", "limits"]
    assert [x["case"]["n"] for x in found["sections"]["step"]] == [10, 1000]
    first = found["sections"]["step"][0]
    assert first["seconds"]["ours"] > 0
    assert first["ratios"]["NumPy"] > 0
    registers, product, moved = (x["more"] for x in found["sections"]["limits"])
    assert registers["gflops"].keys() == moved["gb_per_s"].keys() == {"one thread", "all threads"}
    assert product["gflops"]["all threads"] > 0
    assert set(found["skipped"]) == {"adam", "training", "networks", "prediction", "adapters"}
    assert found["machine"]["numba_threads"] == 1
    assert "nothing was measured on a GPU" in done.stdout


def test_every_promise_is_of_a_case_that_is_measured():
    cases = {name: [case for case, _ in jobs()] for name, (_, jobs) in sections.SECTIONS.items()}
    for promise in PROMISES:
        assert promise.case in cases[promise.section], promise
        assert promise.against in report.COLUMNS[promise.section], promise
    assert len({(p.section, *p.case.values(), p.against) for p in PROMISES}) == len(PROMISES)
