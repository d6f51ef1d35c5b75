"""What `python -m tests.platforms` says, and when it fails; that the hashes are equal is a leg of CI."""

import sys

import pytest
from llvmlite import binding

from tests.platforms import __main__ as platforms
from tests.platforms import aarch64


def said(monkeypatch, capsys, outcome, *names):
    monkeypatch.setattr(platforms, "outcome", lambda platform, folder, cases: outcome(platform.name))
    monkeypatch.setattr(sys, "argv", ["platforms", *names])
    return platforms.main(), capsys.readouterr().out


def test_another_hash_is_a_failure_and_what_is_missing_is_not(monkeypatch, capsys):
    def outcome(name):
        if name == "aarch64":
            raise aarch64.Unavailable("no index can be reached")
        if name == "cuda":
            raise ValueError("0 is not 1")
        return "0"

    status, text = said(monkeypatch, capsys, outcome)
    assert status == 1
    assert "SKIPPED: no index can be reached" in text
    assert text.endswith("DIFFERS: 0 is not 1\ncuda: other bits\n")
    assert len(text.splitlines()) == len(platforms.PLATFORMS) + 1

    status, text = said(monkeypatch, capsys, outcome, "here", "aarch64")
    assert status == 0
    assert "DIFFERS" not in text


@pytest.mark.ci
@pytest.mark.skipif(not binding.get_host_cpu_features().get("fma"), reason="this processor has no FMA")
def test_code_for_another_processor_than_meant_is_a_failure(tmp_path):
    """A process that compiles with the instructions of this processor for a platform without them."""
    pretended = platforms.PLATFORMS[1]._replace(cpu=None)
    with pytest.raises(ValueError, match="not what it was compiled for"):
        platforms.outcome(pretended, tmp_path, None)


def test_what_apt_says_is_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(aarch64.platform, "machine", lambda: "aarch64")
    with pytest.raises(aarch64.Unavailable, match="on other processors"):
        aarch64.python(tmp_path / "new")
    with pytest.raises(aarch64.Unavailable, match=r"status 3 and said: no network"):
        aarch64._run(sys.executable, "-c", "import sys; sys.exit(print('no network') or 3)")
