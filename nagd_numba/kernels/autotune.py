"""How much work a call of a kernel is given, and which of its forms does it."""

from __future__ import annotations

from typing import Any

CALL_SECONDS = 0.08  # of one call: the wait for Ctrl-C
TRIAL_SECONDS = 0.004  # of a call that finds out how fast a form is
RETRY = 16  # calls after which the other forms are tried again


class Autotuner:
    """Which of several forms of a kernel, all with equal results, takes the next steps, and how many.

    Threads pay or not depending on what else runs on the machine: a thread that has to wait for a core can make a step
    a hundred times slower.  So the forms are timed on the work itself, and the slower ones again from time to time.
    """

    def __init__(self, forms: tuple[Any, ...], guess: float) -> None:
        self._seconds = dict.fromkeys(forms, guess)  # for a step
        self._untried = list(forms) if len(forms) > 1 else []
        self._calls = 0

    def next(self, left: int) -> tuple[Any, int]:
        """The form, and a number of steps of at most `left`."""
        self._calls += 1
        if not self._untried and len(self._seconds) > 1 and self._calls % RETRY == 0:
            best = self._best()
            self._untried = [form for form in self._seconds if form != best]
        trial = bool(self._untried)
        form = self._untried[0] if trial else self._best()
        seconds = TRIAL_SECONDS if trial else CALL_SECONDS
        return form, max(1, min(left, int(seconds / self._seconds[form])))

    def took(self, form: Any, steps: int, seconds: float) -> None:
        """Tell how long the steps took."""
        self._seconds[form] = max(1e-7, seconds / steps)
        if form in self._untried:
            self._untried.remove(form)

    def _best(self) -> Any:
        return min(self._seconds, key=self._seconds.__getitem__)
