"""Docstrings of all public objects: numpydoc's validation, and checks that need nothing."""

import ast
import importlib
import inspect
import re
import textwrap

import pytest

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

# Checks of numpydoc.validate that are not ours, each with its reason.
NOT_CHECKED = {
    "EX01": "examples: functions and classes below; methods may share the class's",
    "ES01": "an extended summary where the summary says all is noise",
    "SA01": "See Also where there is something to see",
    "SS02": "takes the summary modAL's ... for one that starts without a capital",
    "SS05": "takes plurals (Names, Logits) for verbs in the third person",
    "PR08": "descriptions begin with open_clip's name, which has no capital",
    "RT02": "results are named, as in scikit-learn",
    "RT03": "self, and names of which the type says all, need no description",
}


def public():
    """Qualified name -> object: functions, classes, and what these define themselves."""
    found, seen = {}, set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            if not callable(value) or id(value) in seen:
                continue
            seen.add(id(value))
            found[f"{module_name}.{name}"] = value
            for key, member in vars(value).items() if inspect.isclass(value) else ():
                kinds = (classmethod, staticmethod, property)
                public = not key.startswith("_") or key == "__call__"
                if public and (inspect.isfunction(member) or isinstance(member, kinds)):
                    found[f"{module_name}.{name}.{key}"] = getattr(value, key)
    return found


PUBLIC = public()


def is_top(name):
    """A function or class, not a member."""
    owner = name.rpartition(".")[0]
    return owner in MODULES


def section(doc, title):
    """Lines of a section of a docstring; None if there is none."""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return match and match[1]


@pytest.mark.parametrize("name", PUBLIC)
def test_numpydoc(name):
    validate = pytest.importorskip("numpydoc.validate").validate
    errors = [(code, text) for code, text in validate(name)["errors"] if code not in NOT_CHECKED]
    assert not errors


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_match_the_signature(name):
    value = PUBLIC[name]
    if isinstance(value, property):
        return
    function = value.__init__ if inspect.isclass(value) else value
    expected = [
        {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]
    text = section(inspect.getdoc(value), "Parameters") or ""
    heads = re.findall(r"^(\*{0,2}\w[\w, *]*?)(?: : .*)?$", text, re.MULTILINE)
    documented = [part.strip() for head in heads for part in head.split(",")]
    assert documented == expected


@pytest.mark.parametrize("name", [name for name in PUBLIC if is_top(name)])
def test_example(name):
    assert ">>> " in (section(inspect.getdoc(PUBLIC[name]), "Examples") or "")


def raised_in(function):
    """Names of the exceptions that the body itself raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name) and node.exc.func.id[0] != "_"  # makers of errors
    }  # fmt: skip


FUNCTIONS = [name for name, value in PUBLIC.items()
             if not inspect.isclass(value) and not isinstance(value, property)]  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_raised_is_documented(name):
    text = section(inspect.getdoc(PUBLIC[name]), "Raises") or ""
    assert all(error in text for error in raised_in(PUBLIC[name]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_returned_is_documented(name):
    tree = ast.parse(textwrap.dedent(inspect.getsource(PUBLIC[name]))).body[0]
    nested = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Lambda)) and n is not tree]
    inner = {id(n) for function in nested for n in ast.walk(function)}
    returns = [n for n in ast.walk(tree) if isinstance(n, ast.Return) and id(n) not in inner]
    if any(n.value is not None for n in returns):
        assert section(inspect.getdoc(PUBLIC[name]), "Returns") is not None
