"""Formulas as MathML, which browsers show themselves: no JavaScript, nothing from elsewhere.

The converter is docutils' own.
"""

from docutils.utils.math import wrap_math_code
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _mathml(node, as_block):
    code = node.astext()
    if as_block and ("\\\\" in code or "&" in code) and "\\begin" not in code:
        code = wrap_math_code(code, as_block=True)
    try:
        return tex2mathml(code, as_block=as_block)
    except Exception as error:  # docutils raises several kinds
        logger.warning("formula %r: %s", code, error, location=node)
        return f"<code>{code}</code>"


def visit_math(self, node):
    from docutils.nodes import SkipNode

    self.body.append(_mathml(node, False))
    raise SkipNode


def visit_math_block(self, node):
    from docutils.nodes import SkipNode

    self.body.append(f'<div class="math-block">{_mathml(node, True)}</div>')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
