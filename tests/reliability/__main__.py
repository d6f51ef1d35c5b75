"""`python -m tests.reliability`: each part, what it tried, how often, and what was lost."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from . import part, parts

SHOWN = 20  # losses of a part


def main(words: list[str] | None = None) -> int:
    """Run the command; 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("part", nargs="*", choices=[[], *parts()], metavar="PART", help=", ".join(parts()))
    how_often = parser.add_mutually_exclusive_group()
    how_often.add_argument("--long", action="store_true", help="as often as the documented figures say")
    how_often.add_argument("--share", type=float, metavar="X", help="X times as often as with --long")
    parser.add_argument("--seed", type=int, default=0, help="of all chances (%(default)s)")
    parser.add_argument("--list", action="store_true", help="only say what the parts try")
    args = parser.parse_args(words)
    lost = 0
    for name in args.part or parts():
        module = part(name)
        share = 1.0 if args.long else args.share
        count = module.SHORT if share is None else max(1, round(share * module.LONG))
        if args.list:
            print(f"{name} ({module.SHORT:,}; {module.LONG:,}): {(module.__doc__ or '').splitlines()[0]}")
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="reliability-", ignore_cleanup_errors=True) as folder:
            result = module.trial(count, args.seed, Path(folder))
        print(f"{name}: {result.line} ({time.perf_counter() - start:.0f} s)", flush=True)
        for loss in result.lost[:SHOWN]:
            print(f"    {loss}", flush=True)
        if len(result.lost) > SHOWN:
            print(f"    ... and {len(result.lost) - SHOWN:,} more", flush=True)
        lost += len(result.lost)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
