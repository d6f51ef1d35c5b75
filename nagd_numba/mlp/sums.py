"""In which order the products sum, and what the steps of an epoch add up: the same on every device."""

from __future__ import annotations

BLOCK = 128  # terms of one chain of fma: rounding errors grow with n/128 + 128 instead of n
LOSS, WEIGHT, PENALTY, HIT, ABSOLUTE, SQUARE = range(6)  # the elements of an epoch's sums
SUMS = 6
PART = 64  # rows of which an evaluation adds up the losses, before it adds up those sums
