"""What stands in single backquotes in a docstring: a link where it is a public name, else code."""

import re

from docutils import nodes
from sphinx import addnodes

import nagd_numba
from nagd_numba import distributed, schedules
from nagd_numba.optimizers.registry import OPTIMIZERS

PUBLIC = {name: f"nagd_numba.{name}" for name in nagd_numba.__all__ if name not in ("__version__", "schedules")}
PUBLIC |= {f"schedules.{name}": f"nagd_numba.schedules.{name}" for name in schedules.__all__}
PUBLIC |= {f"distributed.{name}": f"nagd_numba.distributed.{name}" for name in distributed.__all__}
PUBLIC |= {name.rpartition(".")[2]: full for name, full in PUBLIC.items() if name.startswith("distributed.")}
METHODS = {f"MLP.{name}": f"nagd_numba.MLP.{name}" for name in vars(nagd_numba.MLP) if not name.startswith("_")}
MODULES = {f"optimizers.{name}": f"nagd_numba.optimizers.{name}" for name in (*OPTIMIZERS, "schedule_free")}
LINKED = PUBLIC | METHODS | MODULES


def target_of(text):
    """The full name of a public name that stands alone or with its arguments, or None."""
    name = re.sub(r"\(.*\)$", "", text).removeprefix("nagd_numba.")
    return LINKED.get(name)


def named(role, rawtext, text, lineno, inliner, options=None, content=()):
    code = nodes.literal(rawtext, text, classes=["code"])
    target = target_of(text)
    if target is None or target == inliner.document.settings.env.ref_context.get("py:name"):
        return [code], []
    link = addnodes.pending_xref(
        rawtext, code, refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=True
    )
    link["refdoc"] = inliner.document.settings.env.docname
    return [link], []


def setup(app):
    app.add_role("named", named)
    app.config.default_role = "named"
    return {"parallel_read_safe": True}
