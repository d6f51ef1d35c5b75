"""`History`: columns, round trip, what it refuses, the plot."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.history import History

names = st.sampled_from(["loss", "lr", "momentum", "accuracy", "validation_loss", "validation_accuracy"])


def filled(epochs=3, *more):
    history = History()
    for epoch in range(epochs):
        history.append(dict.fromkeys(("loss", *more), (epoch + 1) / 4))
    return history


@given(
    columns=st.sets(names, min_size=1).flatmap(
        lambda found: st.lists(st.fixed_dictionaries({name: st.floats() for name in found}))
    )
)
def test_round_trip(columns):
    history = History()
    for values in columns:
        history.append(values)
    assert history.epochs == len(history) == len(columns)
    again = History.from_dict(history.to_dict())
    assert again.epochs == history.epochs
    assert list(again.to_dict()) == list(history.to_dict())
    for name, column in history.to_dict().items():
        assert column.dtype == np.float64
        np.testing.assert_array_equal(again[name], column)
        np.testing.assert_array_equal(column, [values[name] for values in columns])
        np.testing.assert_equal(history.last(name), columns[-1][name])
        assert type(history.last(name)) is float


def test_columns_are_copies():
    history = filled(2)
    history["loss"][:] = 7
    history.to_dict()["loss"][:] = 7
    columns = {"loss": [1.0, 2.0]}
    other = History.from_dict(columns)
    columns["loss"].append(3.0)
    assert history["loss"].tolist() == [0.25, 0.5]
    assert other["loss"].tolist() == [1, 2]


def test_values_grow_with_the_history():
    history = filled(2)
    values = history.values("loss")
    history.append({"loss": 0.75})
    assert list(values) == [0.25, 0.5, 0.75]
    assert list(History().values("loss")) == []


def test_a_history_from_a_dict_goes_on():
    history = History.from_dict(filled(2).to_dict())
    history.append({"loss": 0.75})
    assert history["loss"].tolist() == filled(3)["loss"].tolist()


def test_nothing_yet():
    history = History()
    assert (history.epochs, len(history), history.stopped, history.seconds) == (0, 0, None, 0.0)
    assert history.to_dict() == {}
    assert History.from_dict({}).epochs == 0
    assert repr(history) == "History(0 epochs)"
    assert "loss" not in history
    with pytest.raises(KeyError, match="there is nothing yet"):
        history["loss"]


def test_repr_says_why_it_stopped():
    history = filled(1, "lr")
    assert repr(history) == "History(1 epoch: loss 0.25, lr 0.25)"
    history.stopped = "patience"
    assert repr(history) == "History(1 epoch: loss 0.25, lr 0.25, stopped: patience)"


def test_unknown_columns():
    history = filled(2, "accuracy")
    assert "accuracy" in history
    for get in (history.__getitem__, history.last):
        with pytest.raises(KeyError, match="'acuracy'; there is 'loss', 'accuracy'"):
            get("acuracy")


def test_every_epoch_has_the_same_columns():
    history = filled(2, "lr")
    for values in ({"loss": 1.0}, {"loss": 1.0, "lr": 1.0, "mae": 1.0}, {}):
        with pytest.raises(ValueError, match="this history has the columns loss, lr"):
            history.append(values)
    assert history.epochs == 2
    assert len(history["loss"]) == len(history["lr"]) == 2
    history.append({"lr": 1.0, "loss": 2.0})  # in any order
    assert history.last("loss") == 2


def test_columns_of_different_lengths():
    with pytest.raises(ValueError, match=r"one length; these have \[1, 2\]"):
        History.from_dict({"loss": [1.0, 2.0], "lr": [1.0]})


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot_to_a_file(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curves.{suffix}"
    for target in (path, str(path)):
        filled(5, "validation_loss", "accuracy", "validation_accuracy", "lr").plot(target)
        assert path.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])
        path.unlink()
    assert not list(tmp_path.iterdir())


def test_what_is_drawn():
    pytest.importorskip("matplotlib")
    history = filled(5, "validation_loss", "accuracy", "lr")
    figure = history.plot()
    losses, shares = figure.axes
    assert [line.get_label() for line in losses.lines] == ["loss", "validation loss"]
    assert [line.get_label() for line in shares.lines] == ["accuracy"]
    assert losses.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert losses.lines[0].get_ydata().tolist() == history["loss"].tolist()
    assert losses.get_yscale() == "log"
    assert len(filled(5, "lr").plot().axes) == 1
    assert filled(5).plot().axes[0].get_yscale() == "log"
    assert History.from_dict({"loss": [1.0, 0.0]}).plot().axes[0].get_yscale() == "linear"


def test_what_cannot_be_drawn_is_left_out():
    pytest.importorskip("matplotlib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        History().plot()
        History.from_dict({"lr": [1.0, 2.0]}).plot()
        History.from_dict({"loss": [1.0, math.nan]}).plot()
        History.from_dict({"loss": [0.0, -1.0], "accuracy": [math.nan, math.inf]}).plot()


def test_plot_on_given_axes():
    matplotlib = pytest.importorskip("matplotlib.figure")
    figure = matplotlib.Figure()
    axes = figure.subplots()
    assert filled(3).plot(axes) is figure
    assert len(axes.lines) == 1


def test_a_plot_that_cannot_be_written(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "old.xyz").write_text("old")
    with pytest.raises(ValueError, match="xyz"):
        filled(3).plot(tmp_path / "old.xyz")
    assert (tmp_path / "old.xyz").read_text() == "old"
    with pytest.raises(OSError, match="missing"):
        filled(3).plot(tmp_path / "missing" / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["old.xyz"]
