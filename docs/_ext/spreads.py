"""A mean and its spread in a table: what programs print as +- is ±, and narrow cells break before it."""

from docutils import nodes

SPREAD = "±\N{NO-BREAK SPACE}"


def keep_together(app, doctree):
    """Write the sign, and behind it a space that does not break."""
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            kept = text.replace("+- ", SPREAD).replace("± ", SPREAD)
            if kept != text:
                text.parent.replace(text, nodes.Text(kept))


def setup(app):
    """Connect it, as Sphinx asks."""
    app.connect("doctree-read", keep_together)
    return {"parallel_read_safe": True}
