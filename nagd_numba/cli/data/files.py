"""The user's own samples, by the kind of their file."""

from __future__ import annotations

from pathlib import Path

from .arrays import read_arrays
from .samples import DataError, Samples
from .tables import Form, read_table

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def load_file(
    path: str | Path,
    label: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    decimal: str | None = None,
) -> Samples:
    """Read samples by the file's suffix: an .npz archive, or a table of text.

    The other arguments are for tables; what is None is found out from the file, and told in `Samples.understood`.

    Parameters
    ----------
    path : str or path
        An .npz, .csv or .tsv file; the last two also compressed by gzip (.csv.gz, .tsv.gz).
    label : str, optional
        The label column, by name or index (default: the last).
    delimiter : str, optional
        The character between the columns, or "tab".
    header : bool, optional
        Does the first line hold the names of the columns?
    decimal : {".", ","}, optional
        What stands before the decimals of a number.

    Raises
    ------
    DataError
        For everything that is wrong with the file or does not fit it.
    """
    path = Path(path)
    suffix = next((known for known in (".npz", *TABLES) if path.name.lower().endswith(known)), None)
    if suffix is None:
        raise DataError(f"{path}: suffix {path.suffix!r} is not known; an .npz, .csv, .tsv or .csv.gz file is needed")
    form = Form(label, delimiter, header, decimal)
    for name, value in vars(form).items():
        if suffix == ".npz" and value is not None:
            labels = "; in an .npz file the labels are the array y" if name == "label" else ""
            raise DataError(f"{path}: --{name} is for .csv files{labels}")
    try:
        return read_arrays(path) if suffix == ".npz" else read_table(path, form)
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except DataError:
        raise
    except ValueError as error:  # a pipe, a device
        raise DataError(str(error)) from error
