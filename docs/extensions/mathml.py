"""Formulas as MathML, which browsers typeset without a script or a font of ours: docutils makes it from LaTeX."""

from docutils import nodes
from docutils.utils.math import latex2mathml


def typeset(node, display):
    return latex2mathml.tex2mathml(node.astext(), as_block=display)


def inline(writer, node):
    writer.body.append(typeset(node, display=False))
    raise nodes.SkipNode


def block(writer, node):
    writer.body.append(f'<div class="math">{typeset(node, display=True)}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
