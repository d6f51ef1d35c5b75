"""Labelled samples: the digits that come with the package, or a file of the user's; split and scaled for training.

load_digits()           the 1,797 digits of io/digits.npz (source and licence: io/DIGITS.md)
load_file(path, …)      an .npz archive or a table of text
split(samples, …)       training and validation rows, scaled
"""

from .files import load_file
from .samples import DataError, Samples, load_digits
from .split import Preprocessing, Split, split

__all__ = ["DataError", "Preprocessing", "Samples", "Split", "load_digits", "load_file", "split"]
