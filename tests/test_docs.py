"""What README and pages show runs as it stands; their commands parse; no name is left out.

Every ``python`` block of a page is run, in order, in one namespace and an empty folder.  A ``text``
block after ``<!-- output -->`` has to be what the block before it printed.  A block with
``<!-- not run: needs ... -->`` before it is compiled only.
"""

import argparse
import importlib.util
import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from modal_clip_dual.cli import build_parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("guide/*.md"))]
FENCE = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Blocks that CI cannot run: page -> what they need.
NOT_RUN = {
    "docs/guide/gpu.md": ["needs a GPU"],
    "docs/own-strategy.md": ["needs pytest, and runs as tests/strategies/test_own_strategy.py"],
}


@dataclass
class Block:
    page: str
    line: int
    language: str
    text: str
    comment: str

    @property
    def not_run(self):
        return self.comment.removeprefix("not run: ") if self.comment.startswith("not run: ") else None


def blocks_of(path):
    text = path.read_text(encoding="utf-8")
    page = path.relative_to(ROOT).as_posix()
    for match in FENCE.finditer(text):
        line = text[: match.start(3)].count("\n") + 1
        yield Block(page, line, match[2], match[3], match[1] or "")


BLOCKS = {path.relative_to(ROOT).as_posix(): list(blocks_of(path)) for path in PAGES}
WITH_PYTHON = [page for page, blocks in BLOCKS.items() if any(b.language == "python" for b in blocks)]


def test_no_block_is_missed():
    """Fences that are indented or not closed would be passed over in silence."""
    for path in PAGES:
        blocks = BLOCKS[path.relative_to(ROOT).as_posix()]
        text = path.read_text(encoding="utf-8")
        for language in ("python", "sh"):
            assert text.count(f"```{language}") == sum(b.language == language for b in blocks), path


def test_blocks_that_are_not_run_are_known():
    found = {
        page: [b.not_run for b in blocks if b.not_run]
        for page, blocks in BLOCKS.items()
        if any(b.not_run for b in blocks)
    }
    assert found == NOT_RUN


def prepare_images(folder):
    from PIL import Image

    (folder / "my-images" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "my-images" / "cat" / "tom.png")


BEFORE = {"docs/images.md": prepare_images}


def check_readme(names, printed):
    assert float(printed.split()[0]) > 0.5
    (block,) = (b for b in BLOCKS["README.md"] if b.language == "python")
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 12


def check_images(names, printed):
    assert len(names["paths"]) == 1


def check_loop(names, printed):
    assert repr(names["learner"]).startswith("DualPromptLearner(round 4, 44 of 1797")
    assert "kappa" in printed and "bob" in printed
    assert len(names["labeled"]) == 44 and names["settings"]["budget"] is None


def check_strategies(names, printed):
    assert names["rows"].shape == (10,)
    assert len(names["learner"].query(names["X"][20:], n_instances=10)[0]) == 10


AFTER = {
    "README.md": check_readme,
    "docs/images.md": check_images,
    "docs/loop.md": check_loop,
    "docs/strategies.md": check_strategies,
}


@pytest.fixture
def clean(monkeypatch):
    """What pages change in this process is put back."""
    import matplotlib
    import matplotlib.pyplot as plt

    from modal_clip_dual.strategies import registry

    matplotlib.use("Agg")
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    yield
    plt.close("all")


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_of(page, tmp_path, monkeypatch, capsys, clean):
    monkeypatch.chdir(tmp_path)
    if page in BEFORE:
        BEFORE[page](tmp_path)
    names, printed = {"__name__": "page"}, ""
    for block in BLOCKS[page]:
        if block.language == "python":
            # Empty lines in front, so that a traceback names the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(ROOT / page), "exec")
            if not block.not_run:
                exec(code, names)
                last = capsys.readouterr().out
                printed += last
        elif block.comment == "output":
            assert last == block.text, f"{page}, line {block.line}"
    if page in AFTER:
        AFTER[page](names, printed)


# ---------------------------------------------------------------- commands


def commands():
    for page, blocks in BLOCKS.items():
        for block in blocks:
            if block.language == "sh" and not block.not_run:
                for line in block.text.replace("\\\n", " ").splitlines():
                    yield from ((page, part) for part in line.split("&&"))


COMMANDS = sorted({tuple(shlex.split(part, comments=True)): page for page, part in commands()}.items())


class Parsed(Exception):
    """Raised in place of all that a script does after it has read its arguments."""


def check_script(words, monkeypatch):
    """Run a script up to the end of parse_args."""
    script = ROOT / words[0]
    assert script.is_file()
    if "argparse" not in script.read_text(encoding="utf-8"):
        assert not [word for word in words[1:] if word.startswith("-")]
        return
    original = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [str(script), *words[1:]])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    with pytest.raises(Parsed):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("words, page", COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_command(words, page, monkeypatch):
    words = list(words)
    while "=" in words[0]:  # FOO=1 in front
        words.pop(0)
    words = words[: words.index("|")] if "|" in words else words
    program, *rest = words
    if program == "modal-clip-dual":
        if "--help" not in rest:
            build_parser().parse_args(rest)
    elif program == "python" and rest[0].endswith(".py"):
        check_script(rest, monkeypatch)
    elif program == "python" and "-c" in rest:
        compile(rest[rest.index("-c") + 1], page, "exec")
    elif program == "pytest":
        options = [word for word in rest if word.startswith("-")]
        paths = [word for word in rest if "/" in word]
        assert len(options) <= 2
        assert all((ROOT / path).exists() for path in paths)
    elif program == "pip":
        extras = re.findall(r"\.\[(\w+)\]", " ".join(rest))
        setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
        assert rest[0] == "install"
        assert all(re.search(rf"^{extra} =$", setup, re.MULTILINE) for extra in extras)
    elif program in ("ruff", "mypy"):
        assert all((ROOT / word).exists() for word in rest if "/" in word)
    elif program == "sphinx-build":
        assert (ROOT / "docs/conf.py").is_file()
    else:
        pytest.fail(f"{page}: nothing checks {program!r}")


# ---------------------------------------------------------------- the site


def test_links_of_pages_lead_somewhere():
    """Links as a code-hosting site shows them; Sphinx checks its own."""
    for path in PAGES:
        text = re.sub(r"```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file = target.split("#")[0]
            if not file or "://" in file or file == "api/index":  # made when the site is built
                continue
            assert (path.parent / file).exists(), f"{path.name}: {target}"


def test_every_public_name_is_in_the_reference():
    spec = importlib.util.spec_from_file_location("public_api", DOCS / "_ext/public_api.py")
    public_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(public_api)
    listed = {name for names in public_api.public_objects().values() for name in names}
    for module in public_api.MODULES:
        names = {name for name in importlib.import_module(module).__all__ if not name.startswith("__")}
        assert names <= listed


def test_versions_agree():
    from modal_clip_dual import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{__version__}}}" in (DOCS / "citing.md").read_text(encoding="utf-8")


def test_readme_names_the_versions_that_were_run():
    install = (DOCS / "install.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (0\.4[\d.]*).*?\| ([\d.]+) \|.*\| passes", install, re.MULTILINE)
    (line,) = re.findall(r"^modAL-python .*", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(table) >= 4
    for modal, sklearn in table:
        assert modal in line
        ends = re.search(r"scikit-learn ([\d.]+) to ([\d.]+)", line).groups()
        low, high, version = (tuple(map(int, v.split("."))) for v in (*ends, sklearn))
        assert low <= version[:2] <= high
