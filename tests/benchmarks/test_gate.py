"""`python -m benchmarks.gate` and the page about speed."""

import pytest

gate = pytest.importorskip("benchmarks.gate", reason="the benchmarks are not beside the tests")
from benchmarks import performance_page  # noqa: E402
from nagd_numba.bench import report  # noqa: E402
from nagd_numba.bench.promises import Promise, promised  # noqa: E402
from nagd_numba.bench.sections import Row  # noqa: E402

ANYWHERE = Promise("step", {"n": 10, "dtype": "float32"}, "NumPy", 2.0)
ON_TWO = Promise("step", {"n": 10, "dtype": "float32"}, "torch fused", 1.5, cores=2)


def judged(promises, tries, cores=2):
    """Verdicts where the tries give these ratios of every contender, or other processes keep so many cores busy."""
    tries = iter(tries)
    asked = []

    def measure(open_):
        asked.append([promise.against for promise in open_])
        ratios, busy, missing = next(tries)
        return Row({}, ratios=ratios, missing=missing, more={"others": busy})

    verdicts = gate.opened(promises, cores)
    for _ in range(gate.TRIES):
        gate.attempt(verdicts, measure)
    return [verdict.word for verdict in verdicts], asked


def test_a_promise_that_is_kept_is_measured_once():
    assert judged([ANYWHERE], [({"NumPy": 2.0}, 0.0, {})]) == (["kept"], [["NumPy"]])


def test_what_falls_short_is_measured_again_and_its_best_counts():
    tries = [({"NumPy": 1.0, "torch fused": 2.0}, 0.0, {}), ({"NumPy": 2.5}, 0.0, {})]
    assert judged([ANYWHERE, ON_TWO], tries) == (["kept", "kept"], [["NumPy", "torch fused"], ["NumPy"]])


def test_three_tries_that_fall_short_break_a_promise():
    words, asked = judged([ANYWHERE, ON_TWO], [({"NumPy": 1.99, "torch fused": 1.0}, 0.0, {})] * 3)
    assert words == ["BROKEN", "BROKEN"]
    assert len(asked) == 3


def test_what_cannot_be_judged_says_why():
    assert judged([ON_TWO], [], cores=16) == (["not judged: meant for 2 cores, and here are 16"], [])
    missing = {"torch fused": "torch is not installed"}
    assert judged([ON_TWO], [({}, 0.0, missing)])[0] == ["not judged: torch is not installed"]
    busy = [({"NumPy": 1.0, "torch fused": 1.0}, cores, {}) for cores in (0.9, 0.5, 0.7)]
    words, _ = judged([ANYWHERE, ON_TWO], busy)
    assert words == ["BROKEN", "not judged: others kept 0.50 cores busy"]
    busy[1] = ({"NumPy": 1.0, "torch fused": 1.0}, 0.1, {})
    assert judged([ON_TWO], busy)[0] == ["BROKEN"]


def test_a_share_of_a_promise_can_be_enough():
    (verdict,) = gate.opened([ANYWHERE], 2, share=0.5)
    gate.attempt([verdict], lambda _: Row({}, ratios={"NumPy": 1.0}, more={"others": 0.0}))
    assert verdict.word == "kept"


def test_exit_status(monkeypatch, capsys):
    def measured(section, case, promises):
        ratios = {promise.against: promise.ratio * (0.5 if promise.against == "JAX" else 2) for promise in promises}
        return Row(case, ratios=ratios, more={"others": 0.0})

    monkeypatch.setattr(gate, "measured", measured)
    assert gate.main(["--only", "prediction"]) == 0
    assert gate.main(["--only", "training"]) == 1
    out = capsys.readouterr().out
    assert "BROKEN: training, batch 32, hidden 32, against JAX: at least 1.4; measured 0.7, 0.7, 0.7" in out


def test_the_page_about_speed_is_that_of_the_committed_figures():
    results = report.read_json(performance_page.RESULTS)
    text = performance_page.PAGE.read_text(encoding="utf-8")
    assert performance_page.replaced(text, results) == text
    with pytest.raises(ValueError, match="the page has no lines"):
        performance_page.replaced("nothing", results)


def test_the_committed_figures_keep_the_promises():
    results = report.read_json(performance_page.RESULTS)
    judged = 0
    for name, rows in results["sections"].items():
        for row in rows:
            for promise in promised(name, row.case).values():
                assert row.ratios[promise.against] >= promise.ratio, promise
                judged += 1
    assert judged == len(gate.PROMISES)
