"""Every file that can exist is read, or refused by a ValueError of one line that names it: models, trainings, data.

More of them, and of more kinds, are damaged by `python -m tests.reliability damaged_files`.
"""

import warnings

import pytest

from tests.helpers.damage import mutated
from tests.helpers.kept_files import KINDS


def read_or_refuse(tmp_path, kind, seeds):
    """Returns how many of the damaged files were refused."""
    name, write, read, check, *_ = KINDS[kind]
    path = tmp_path / name
    write(path, 0)
    check(read(path))
    whole, refused = path.read_bytes(), 0
    for seed in seeds:
        path.write_bytes(mutated(whole, seed))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                result = read(path)
            except ValueError as error:
                refused += 1
                message = str(error)
                assert message.startswith((f"{path}: ", "--epochs is ")), (seed, message)
                assert message.isprintable(), (seed, message)
                assert len(message) < 1000, (seed, message)
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        try:
            check(result)
        except Exception as error:
            raise AssertionError(f"seed {seed} was read, and is not sound: {error}") from error
    return refused


@pytest.mark.parametrize("kind", ["model", "training", "data"])
def test_a_thousand_damaged_files(tmp_path, kind):
    number = 334
    assert read_or_refuse(tmp_path, kind, range(number)) > number / 2
