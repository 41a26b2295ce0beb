"""The public names: the index of the API reference, and links to its pages.

Both come from the ``__all__`` of the modules below, so that a new public name needs no line here.
"""

from importlib import import_module
from inspect import isclass

MODULES = [
    "modal_clip_dual",
    "modal_clip_dual.strategies",
    "modal_clip_dual.active",
    "modal_clip_dual.base",
    "modal_clip_dual.data",
    "modal_clip_dual.evaluation",
    "modal_clip_dual.exchange",
    "modal_clip_dual.label",
]


def public_objects():
    """Module -> {name: object}, each object under the first module that has it."""
    known, found = set(), {}
    for module_name in MODULES:
        module = import_module(module_name)
        found[module_name] = {}
        for name in module.__all__:
            value = getattr(module, name)
            if name.startswith("__") or name in known:
                continue
            known.add(name)
            found[module_name][name] = value
    return found


def _groups(names):
    """(title, names) of one module."""
    classes = [name for name, value in names.items() if isclass(value)]
    data = [name for name, value in names.items() if not callable(value)]
    strategies = [name for name in names if name.endswith("_sampling")]
    plots = [name for name in names if name.startswith("plot_")]
    rest = [name for name in names if name not in {*classes, *data, *strategies, *plots}]
    groups = [("Classes", classes), ("Query strategies", strategies), ("Functions", rest)]
    return [group for group in [*groups, ("Figures", plots), ("Data", data)] if group[1]]


def write_index(folder):
    """Write ``index.rst`` of the API reference, if it changed."""
    lines = ["API reference", "=============", "", "Every public name. Names below a module "]
    lines[-1] += "are imported from that module. Nothing else is promised to stay."
    for module_name, names in public_objects().items():
        summary = import_module(module_name).__doc__.split("\n")[0]
        lines += ["", module_name, "-" * len(module_name), "", summary, ""]
        lines += [f".. currentmodule:: {module_name}", ""]
        for title, group in _groups(names):
            lines += [f".. rubric:: {title}", "", ".. autosummary::", "   :toctree: ."]
            lines += ["   :nosignatures:", "", *(f"   {name}" for name in group), ""]
    text = "\n".join(lines)
    target = folder / "index.rst"
    folder.mkdir(exist_ok=True)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def resolve(app, env, node, content_node):
    """Find the page of `mine_confident`, `DualPromptClassifier.fit`, or of a method by `fit`."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removeprefix("~")
    names = [target, target.rpartition("modal_clip_dual.")[2]]
    context = node.get("py:class")
    if context:
        names.append(f"{context.rpartition('.')[2]}.{target}")
    names.append(target.split(".")[-1])
    for name in names:
        head = name.split(".")[0]
        for module_name, objects in app.env._public_names.items():
            if head in objects:
                from sphinx.util.nodes import make_refnode

                full = f"{module_name}.{name}"
                entry = env.get_domain("py").objects.get(full)
                if entry is not None:
                    return make_refnode(
                        app.builder, node["refdoc"], entry.docname, entry.node_id, content_node, full
                    )
    node["reftarget"] = ELSEWHERE.get(target, target)  # intersphinx looks next
    return None


# Names that docstrings use as modAL's and scikit-learn's users do.
ELSEWHERE = {
    "ActiveLearner": "modAL.models.ActiveLearner",
    "make_linear_combination": "modAL.utils.combination.make_linear_combination",
    "make_product": "modAL.utils.combination.make_product",
    "make_query_strategy": "modAL.utils.combination.make_query_strategy",
    "entropy_sampling": "modAL.uncertainty.entropy_sampling",
    "margin_sampling": "modAL.uncertainty.margin_sampling",
    "skorch.NeuralNetClassifier": "skorch.classifier.NeuralNetClassifier",
}


def skip_member(app, what, name, obj, skip, options):
    """Leave out what scikit-learn and modAL make or hand down; what our own bases do stays."""
    function = getattr(obj, "fget", None) or getattr(obj, "__func__", obj)
    module = getattr(function, "__module__", None) or "modal_clip_dual"
    made = name.startswith("set_") and name.endswith("_request")
    return True if made or not module.startswith("modal_clip_dual") else None


def link_literals(app, doctree, docname):
    """Make links of the names of public objects in code type, on pages other than theirs."""
    from docutils import nodes
    from sphinx.util.nodes import make_refnode

    if docname.startswith("api/"):
        return
    objects = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext()
        if isinstance(literal.parent, nodes.reference) or not name.replace(".", "").isidentifier():
            continue
        head = name.split(".")[0]
        for module_name, names in app.env._public_names.items():
            entry = objects.get(f"{module_name}.{name}") if head in names else None
            if entry is not None:
                node = literal.deepcopy()
                to = entry.docname, entry.node_id
                literal.replace_self(make_refnode(app.builder, docname, *to, node, name))
                break


def setup(app):
    def remember(app, env, docnames):
        env._public_names = {module: set(names) for module, names in public_objects().items()}

    app.connect("env-before-read-docs", remember)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("doctree-resolved", link_literals)
    app.connect("missing-reference", resolve, priority=400)  # before intersphinx
    return {"parallel_read_safe": True, "parallel_write_safe": True}
