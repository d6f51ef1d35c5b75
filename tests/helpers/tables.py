"""Tables of text for tests."""

from nagd_numba.cli.data import load_file


def rows(form, labels=("cat", "dog"), n=12):
    """Lines of a format with the number of the row, a small integer and a label; every label comes several times."""
    return "".join(form.format(i, i % 5, labels[i % len(labels)]) + "\n" for i in range(n))


def load(tmp_path, content, name="table.csv", **options):
    """What is read from a file of this content, text or bytes."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_file(path, **options)


def understood(tmp_path, content, name="table.csv", **options):
    """The line about a table, without the name of the file."""
    return load(tmp_path, content, name, **options).understood.removeprefix(f"{tmp_path / name}: ")
