"""The rooms of the package and the floors that they are on: imports lead down only."""

import ast
from pathlib import Path

import pytest

import modal_clip_dual

ROOT = Path(modal_clip_dual.__file__).parent

# From top to bottom; rooms of one floor do not know each other.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"label"},
    {"evaluation", "exchange"},
    {"active"},
    {"classifier", "fine_tuned", "heads", "correctness", "test_time"},
    {"base"},
    {"nn", "encoder"},
    {"clip"},
    {"data", "strategies"},
    {"_compat"},
    {"utils", "scores"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# The one way up: `learner.label()` opens the page in a notebook, since people look for it on the learner.  The page
# is imported when it is called, and for its type; nothing else of the loop knows of it.
UP = {("active/_shown", "label", "show"), ("active/_shown", "label", "NotebookPage")}


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py")


def parts_of(path):
    """Name of a module inside the package, as a tuple."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(path):
    """(line, module, names) of every import of the package by one of its modules."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = (*base, *(node.module or "").split(".")) if node.module else base
            yield node.lineno, module, [alias.name for alias in node.names]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            assert not any(name.split(".")[0] == "modal_clip_dual" for name in names), (path, node.lineno)


def rooms_of(module, names):
    """The rooms that an import leads to; names of the package itself lead to where they are defined."""
    if module:
        return {module[0]}
    return {WHERE.get(name, name) for name in names} - {"__version__"}


def where():
    """Room of every public name, by the package's stub."""
    stub = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module.split(".")[0] for node in imports for alias in node.names}


WHERE = where()


def test_every_module_is_in_a_room():
    rooms = {parts_of(path)[0] for path in modules()}
    assert rooms <= set(FLOOR), f"without a floor: {rooms - set(FLOOR)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(parts_of(path)))
def test_imports_lead_down(path):
    room = parts_of(path)[0]
    for line, module, names in imports_of(path):
        names = [name for name in names if ("/".join(parts_of(path)), "/".join(module), name) not in UP]
        for other in (rooms_of(module, names) if names else set()) - {room}:
            assert FLOOR[room] < FLOOR[other], f"{path.name}:{line}: {room} imports {other}"


def test_the_way_up_is_taken_when_called_and_by_nothing_more():
    found = set()
    for path in {ROOT / f"{name}.py" for name, _, _ in UP}:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        late = {node.lineno for part in tree.body if isinstance(part, (ast.ClassDef, ast.FunctionDef, ast.If))
                for node in ast.walk(part) if isinstance(node, ast.ImportFrom)}  # fmt: skip
        for line, module, names in imports_of(path):
            up = {(("/".join(parts_of(path))), "/".join(module), name) for name in names} & UP
            assert not up or line in late, f"{path.name}:{line}: imported with the module"
            found |= up
    assert found == UP  # no exception that is not needed


def test_no_circle_between_modules():
    """Imports inside of functions and for types count, too."""
    names = {parts_of(path) for path in modules()}
    arrows = {}
    for path in modules():
        targets = set()
        for _, module, imported in imports_of(path):
            inside = {(*module, name) for name in imported} & names
            targets |= inside or ({module} & names)
        arrows[parts_of(path)] = targets - {parts_of(path)}
    done = set()

    def visit(module, above):
        assert module not in above, f"a circle: {' -> '.join('/'.join(m) for m in [*above, module])}"
        if module not in done:
            for other in sorted(arrows[module]):
                visit(other, [*above, module])
            done.add(module)

    for module in sorted(arrows):
        visit(module, [])


def private_names_of(path):
    """(line, name) of every private name of the package that a module takes from another room."""
    room = parts_of(path)[0]
    for line, module, names in imports_of(path):
        if module and module[0] != room:
            for name in (*module[1:], *names):
                if name.startswith("_") and not name.startswith("__"):
                    yield line, name
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
            super_ = isinstance(owner, ast.Call) and getattr(owner.func, "id", "") == "super"
            if not own and not super_ and node.attr not in DEFINED[room] | OTHERS:
                yield node.lineno, node.attr


def defined_in_rooms():
    """Private attributes, functions and classes by the room that defines them."""
    defined = {}
    for path in modules():
        names = defined.setdefault(parts_of(path)[0], set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
    return defined


DEFINED = defined_in_rooms()
# Of other packages, where they have no public way: the blocks of a module, what torch.compile wraps, the names of an
# estimator's parameters, the type of argparse's commands,
# the caller's frame.
OTHERS = {"_modules", "_orig_mod", "_get_param_names", "_SubParsersAction", "_getframe"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(parts_of(path)))
def test_private_names_stay_in_their_room(path):
    found = [f"{path.name}:{line}: {name}" for line, name in private_names_of(path)]
    assert not found


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(parts_of(path)))
def test_files_are_one_room_each(path):
    """A long file usually has several jobs; the classifier is long since its parameters are explained there."""
    if parts_of(path) != ("classifier",):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
