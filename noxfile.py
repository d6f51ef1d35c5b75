#!/usr/bin/env -S python3
# /// script
# dependencies = ["nox>=2024.4.15"]
# ///
"""The legs of CI by name: `nox -l` lists them, `nox -s lint` runs one.  What they do stands in `.ci/run`."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"  # `.ci/run` makes the environments, of which some legs share one
RUN = str(Path(__file__).parent / ".ci" / "run")


def leg(session: nox.Session, name: str) -> None:
    """Run one leg, in the environments that `.ci/run` keeps for it."""
    session.run(RUN, name, external=True)


for line in subprocess.run([RUN, "--list"], check=True, capture_output=True, text=True).stdout.splitlines():
    name, what = line.split(maxsplit=1)
    function = functools.partial(leg, name=name)
    function.__doc__ = what
    nox.session(function, name=name, default=name == "lint")

if __name__ == "__main__":
    nox.main()
