"""Sphinx configuration; ``sphinx-build -W --keep-going -n docs docs/_build`` builds the site.

Needs no network.  ``DOCS_ONLINE=1`` fetches the other projects' own inventories; without it links
to them come from the short hand-written ones in ``inventories``.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import public_api  # noqa: E402  (ours, in _ext)

import modal_clip_dual  # noqa: E402  (after sys.path, as above)

project = "modal-clip-dual"
author = "the modal-clip-dual developers"
copyright = f"2026, {author}"
release = version = modal_clip_dual.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "mathml",  # ours: formulas without JavaScript
    "public_api",  # ours: names in docstrings and pages lead to the page of the object
    "spreads",  # ours: "90.1 +- 0.4" in narrow cells
]
exclude_patterns = ["_build", "_templates", "_ext", "inventories"]
templates_path = ["_templates"]
nitpicky = True

# ---------------------------------------------------------------- Markdown

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# ---------------------------------------------------------------- API reference

public_api.write_index(HERE / "api")
autosummary_generate = True
autodoc_default_options = {"members": True, "inherited-members": True, "member-order": "bysource"}
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # types are in the Parameters sections
numpydoc_show_class_members = False  # listed by the template
numpydoc_xref_param_type = False
default_role = "py:obj"  # `mine_confident` in a docstring is a link
# In docstrings, and not ours to link: names inside modal_clip_dual that have no page.
nitpick_ignore_regex = [
    ("py:.*", r"modal_clip_dual\.(nn|clip)\..*"),
]

# ---------------------------------------------------------------- other projects

ELSEWHERE = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "pandas": "https://pandas.pydata.org/docs/",
    "sklearn": "https://scikit-learn.org/stable/",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "modAL": "https://modal-python.readthedocs.io/en/latest/",
    "matplotlib": "https://matplotlib.org/stable/",
}
online = bool(os.environ.get("DOCS_ONLINE"))
intersphinx_mapping = {
    name: (url, None if online else f"inventories/{name}.inv") for name, url in ELSEWHERE.items()
}
intersphinx_timeout = 10

# ---------------------------------------------------------------- HTML

html_theme = "pydata_sphinx_theme"
html_title = f"modal-clip-dual {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# Pages without a section of their own leave the room to their tables.
html_sidebars = {
    page: []
    for page in (
        "index", "install", "quickstart", "method", "strategies", "results", "performance", "demo-clip",
        "own-strategy", "contributing", "changelog", "citing",
    )
}  # fmt: skip
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "modal-clip-dual"},
    "header_links_before_dropdown": 4,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_prompt_text = ">>> |\\.\\.\\. |\\$ "
copybutton_prompt_is_regexp = True
