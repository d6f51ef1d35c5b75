"""The options of the command line: what they are called, what they mean, and their help."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from ..optimizers.registry import METHODS
from . import defaults
from .config import ACTIVATIONS, DEVICES, DTYPES, LOSSES, PRECISIONS, Config, SweepConfig

WHOLE: dict[str, Any] = {"type": int, "metavar": "N"}
SHARE: dict[str, Any] = {"type": float, "metavar": "X"}
NAME: dict[str, Any] = {"metavar": "NAME"}


def add_train(parser: argparse.ArgumentParser) -> None:
    """The options of `nagd-numba train`."""
    _add_data(parser, "decides rows held back, parameters, batches and dropout")
    _add_network(parser)

    group = parser.add_argument_group("training")
    usual = ",".join(Config.methods)
    group.add_argument(
        "--methods", type=_names, metavar="NAME[,NAME...]", help=f"some of {','.join(METHODS)} ({usual})"
    )
    _add_length(group, f"{defaults.BATCH_SIZE} for the digits, {Config.batch_size} for other data")
    best = "for the digits the best of a grid for each, else"
    group.add_argument("--lr", **SHARE, help=f"learning rate of {_methods('lr')} ({best} {Config.lr})")
    group.add_argument("--adam-lr", **SHARE, help=f"learning rate of {_methods('adam_lr')} ({best} {Config.adam_lr})")
    group.add_argument("--momentum", **SHARE, help=f"of momentum and nag, from 0 to below 1 ({best} {Config.momentum})")
    device = f"{', '.join(DEVICES)}; auto: cuda if there is a GPU (%(default)s)"
    group.add_argument("--device", **NAME, help=device)
    group.add_argument(
        "--precision",
        **NAME,
        help=f"{', '.join(PRECISIONS)}; tf32: products on tensor cores, of float32 networks with cuda (%(default)s)",
    )
    group.add_argument(
        "--reproducible",
        action="store_true",
        help="add up gradients in an order that does not depend on the number of processes (mpiexec -n N): equal bits "
        "for any N, one included",
    )
    group.add_argument(
        "--micro-batches", **WHOLE, help="parts of a batch that --reproducible adds up, at most its rows (%(default)s)"
    )

    group = parser.add_argument_group("results")
    group.add_argument("--target", **SHARE, help="validation accuracy in %% whose first epoch is told (%(default)g)")
    group.add_argument("--plot", metavar="FILE", help="write the curves as .png, .svg, .pdf, ... (needs matplotlib)")
    group.add_argument(
        "--save",
        metavar="FILE",
        help="write the best model (see nagd_numba.model_file.load_model) and the state of the training as .npz, while "
        "it goes on and at its end",
    )
    group.add_argument(
        "--resume",
        metavar="FILE",
        help="continue the training in a file of --save, with its options; --epochs may be larger than before",
    )


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """The options of `nagd-numba sweep`."""
    _add_data(parser, "decides rows held back; parameters, batches and dropout have this seed and those after it")
    _add_network(parser)

    group = parser.add_argument_group("training")
    usual = SweepConfig()
    numbers: dict[str, Any] = {"type": _numbers, "metavar": "X[,X...]"}
    group.add_argument("--lr", dest="lrs", **numbers, help=f"learning rates ({_listed(usual.lrs)})")
    group.add_argument(
        "--momentum", dest="momenta", **numbers, help=f"momenta, from 0 to below 1 ({_listed(usual.momenta)})"
    )
    group.add_argument(
        "--seeds", **WHOLE, help="networks for each pair, with seeds --seed, --seed + 1, ... (%(default)s)"
    )
    group.add_argument("--optimizer", **NAME, help=f"{', '.join(METHODS)} (%(default)s)")
    _add_length(group)

    group = parser.add_argument_group("results")
    group.add_argument("--plot", metavar="FILE", help="write the heat map as .png, .svg, .pdf, ... (needs matplotlib)")
    group.add_argument("--json", metavar="FILE", help="write the results of all networks, with their histories")


def add_bench(parser: argparse.ArgumentParser) -> None:
    """The options of `nagd-numba bench`."""
    parser.add_argument("--only", type=_names, metavar="NAME[,NAME...]", help="some sections (all)")
    parser.add_argument("--plot", metavar="FILE", help="draw rooflines as .png, .svg, .pdf, ... (needs matplotlib)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--seconds", **SHARE, default=100.0, help="begin nothing after so many (%(default)g)")


def add_info(parser: argparse.ArgumentParser) -> None:
    """The options of `nagd-numba info`."""
    parser.add_argument("--clear-cache", action="store_true", help="remove all compiled kernels from the disk")
    parser.add_argument("--support", action="store_true", help="print the table of what runs where, in Markdown")


def add_export(parser: argparse.ArgumentParser) -> None:
    """The options of `nagd-numba export`."""
    parser.add_argument("directory", metavar="DIR", help="where to write; made if there is none")
    parser.add_argument(
        "--with",
        dest="composed",
        metavar="PART,...",
        action="append",
        default=[],
        help="also the steps with these parts, whose names end with them: lr_array, weight_decay_array, lower or "
        "lower_array, upper or upper_array, l1 or scaled_l1, average, mask; may be repeated",
    )
    parser.add_argument(
        "--cpu",
        **NAME,
        help="the processor to compile for: x86-64, x86-64-v2, x86-64-v3, x86-64-v4 or host, and generic or host where "
        "that is not an x86 (default: x86-64-v3, which has AVX2 and FMA, or generic)",
    )


def _add_data(parser: argparse.ArgumentParser, seed: str) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        metavar="FILE",
        help="an .npz file with arrays X (n, d) and y (n,), or a .csv, .tsv or .csv.gz file, whose form is found out "
        "and told; labels are integers or text; features are standardised with the mean and standard deviation of the "
        "training rows (default: 1,797 handwritten digits that come with the package, divided by 16)",
    )
    group.add_argument(
        "--label",
        metavar="NAME|INDEX",
        help="the label column of a .csv file, by name or counted from 0, or from -1 backwards (default: the last)",
    )
    group.add_argument(
        "--delimiter", metavar="CHARACTER", help="what parts the columns of a .csv file, or the word tab (found out)"
    )
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="the first line of a .csv file holds the names of the columns, or a row (found out)",
    )
    group.add_argument("--decimal", metavar=".|,", help="the decimal mark of a .csv file (found out)")
    group.add_argument(
        "--validation", **SHARE, help="share of the rows held back, the same of each class (%(default)s)"
    )
    group.add_argument("--seed", **WHOLE, help=f"{seed} (%(default)s)")


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--hidden", type=_widths, metavar="N[,N...]", help="widths of the hidden layers, or none (128)")
    group.add_argument("--activation", **NAME, help=f"{', '.join(ACTIVATIONS)} (%(default)s)")
    group.add_argument("--loss", **NAME, help=f"{', '.join(LOSSES)} (%(default)s)")
    group.add_argument("--dropout", **SHARE, help="share of hidden units dropped while training (%(default)s)")
    group.add_argument("--l2", **SHARE, help="weight of the penalty on squared weights (%(default)s)")
    group.add_argument("--dtype", **NAME, help=f"{', '.join(DTYPES)} (%(default)s)")


def _add_length(group: Any, batch_size: str = "%(default)s") -> None:
    group.add_argument("--epochs", **WHOLE, help="passes over the training rows (%(default)s)")
    group.add_argument("--batch-size", **WHOLE, help=f"rows for each step ({batch_size})")


def _widths(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}; widths are needed, such as 128 or 128,64, or none") from error


def _methods(lr: str) -> str:
    """The methods of training that have this learning rate."""
    *others, last = (method.name for method in METHODS.values() if method.lr == lr)
    return f"{', '.join(others)} and {last}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}; numbers are needed, such as 0.1 or 0.01,0.03,0.1") from error


def _listed(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
