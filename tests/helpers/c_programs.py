"""Compilers, and what they make."""

import shutil
import subprocess

import pytest

STRICT = ("-O1", "-Wall", "-Wextra", "-pedantic", "-Werror")


def tool(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
