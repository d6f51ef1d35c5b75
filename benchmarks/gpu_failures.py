"""A plugin of pytest: what fails is printed when it fails, not at the end."""

from __future__ import annotations

from typing import Any


def pytest_configure(config: Any) -> None:
    if not hasattr(config, "workerinput"):  # of xdist: its controller hears everything
        config.pluginmanager.register(Printer(config))


class Printer:
    def __init__(self, config: Any) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.write(f"FAILED {report.nodeid} ({report.when})", report.longreprtext)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.write(f"ERROR {report.nodeid}: {report.longreprtext.splitlines()[-1]}", report.longreprtext)

    def write(self, *texts: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        reporter.ensure_newline()
        for text in texts:
            reporter.write_line(text)
