"""Who has what of a flat vector: one slice for each rank, and buckets that cut all slices alike."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.reductions import BLOCK  # elements: `Guard` adds up blocks of so many


@dataclass(frozen=True)
class Slices:
    """A vector of `n` elements over `size` ranks: rank `k` has `[k length, (k+1) length)`, cut at `n`.

    A length is a whole number of blocks of 4096 elements.  So no block has two owners, and the sums that `Guard` forms
    block by block are the same numbers for any number of ranks.  It also keeps short vectors on few ranks: a step of
    4096 elements takes about as long as one message.

    Bucket `j` is the part `[j width, (j+1) width)` of every slice; `width` is a whole number of blocks, too.
    """

    n: int
    size: int
    buckets: int = 1

    @property
    def length(self) -> int:
        """The elements of a slice, but for the last ones, which may have fewer or none."""
        return _blocks(_blocks(self.n, BLOCK), self.size) * BLOCK

    @property
    def width(self) -> int:
        """The elements of a bucket in a slice, but for the last bucket."""
        return max(1, _blocks(_blocks(self.length, BLOCK), self.buckets)) * BLOCK

    @property
    def count(self) -> int:
        """The buckets that there are: no more than blocks."""
        return _blocks(self.length, self.width)

    def of(self, rank: int) -> tuple[int, int]:
        """Where the slice of a rank begins, and where it ends."""
        return min(self.n, rank * self.length), min(self.n, (rank + 1) * self.length)

    def part(self, rank: int, bucket: int) -> tuple[int, int]:
        """The same of a bucket in that slice."""
        start = rank * self.length
        stop = start + min(self.length, (bucket + 1) * self.width)
        return min(self.n, start + bucket * self.width), min(self.n, stop)


def _blocks(n: int, of: int) -> int:
    return -(-n // of)
