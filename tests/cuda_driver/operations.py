"""Work that the host has queued, and what it comes after."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
# Frames of these say nothing of where a program started something.
LIBRARIES = (f"{HERE}/", "/site-packages/", "/lib/python3", "<frozen", "<string>", "<__array_function__")
TESTS = f"{HERE}/tests/"


class Operation:
    """One kernel, copy, or mark in the order of a stream."""

    def __init__(self, name, context, run=None, after=()):
        self.name, self.context, self.run, self.after = name, context, run, [x for x in after if x is not None]
        self.done, self.place, self.time = False, "", 0.0
        self.number = self.epoch = self.before = 0  # given by the engine

    def __str__(self):
        return f"{self.name}, started at {self.place or '?'}"


def place():
    """Where the program that calls the driver is: its own innermost lines, libraries left out."""
    found, frame = [], sys._getframe(1)
    while frame is not None and len(found) < 3:
        file = frame.f_code.co_filename
        if file.startswith(TESTS) or not any(part in file for part in LIBRARIES):
            found.append(f"{_short(file)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


def _short(file):
    parts = Path(file).parts
    return "/".join(parts[-2:]) if len(parts) > 2 else file
