"""What the kernels of rows refuse, in words."""

from __future__ import annotations

from ..kernels import row_steps


def refuse(status: int, at: int, row: int, done: int, newest: int, size: int, history: tuple[int, int, int]) -> None:
    """Raise what a status of `kernels.row_steps` tells of the row at a place of `rows`, which is `done` up to a step.

    There are `size` rows, done up to a step of at most `newest`.  Of a history: its start, its steps, and its capacity.
    """
    start, count, capacity = history
    if status == row_steps.OUTSIDE:
        raise ValueError(f"rows[{at}] is {row}; a row from 0 to {size - 1} is needed, as params has {size}")
    if status == row_steps.TWICE:
        raise ValueError(
            f"rows[{at}] is {row}, which is there before; distinct rows are needed. Add up their gradients: "
            f"unique, place = np.unique(rows, return_inverse=True); "
            f"sums = np.zeros((len(unique), width), grads.dtype); np.add.at(sums, place, grads)"
        )
    if status == row_steps.DESCENDING:
        raise ValueError(
            f"rows[{at}] is {row}, and the row before it no less; on a CUDA device rows must ascend, as those of "
            f"torch.unique and cupy.unique do"
        )
    if status == row_steps.AHEAD:
        raise ValueError(
            f"last[{row}] is {done}, and this call takes rows that are done up to step {newest} or before: "
            f"t is one more with each step"
        )
    if status == row_steps.BEFORE:
        raise ValueError(
            f"last[{row}] is {done}; a number >= {start} is needed"
            + (f", as history begins with step {start + 1}: finish_rows before a new history" if start else "")
        )
    raise ValueError(_of_history(status, newest, start, count, capacity))


def _of_history(status: int, newest: int, start: int, count: int, capacity: int) -> str:
    if status == row_steps.EARLY:
        return f"history begins with step {start + 1}, which is after t"
    if status == row_steps.UNRECORDED:
        return (
            f"history ends with step {start + count}, and step {newest} is not written down: call step_rows in each "
            f"step, with no rows where there is no gradient"
        )
    if status == row_steps.FULL:
        return (
            f"history has room for steps up to {start + capacity}: finish_rows(..., t={newest}), then another one: "
            f"row_history(steps, start={newest})"
        )
    return "history has step t with other settings: one history is for steps of the same settings"
