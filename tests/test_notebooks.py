"""The notebooks in examples/ run as they stand, and are stored without outputs."""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
nbclient = pytest.importorskip("nbclient")
jupyter_client = pytest.importorskip("jupyter_client")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
TABLE = (ROOT / "docs/notebooks.md").read_text(encoding="utf-8")
# Notebook -> figures that it shows.
FIGURES = {
    "01_quickstart": 2,
    "02_pipeline_grid_search": 0,
    "03_compare_strategies": 3,
    "04_own_images": 1,
    "05_correctness_scores": 3,
    "06_committee_custom": 2,
    "07_gpu_vit_b16": 1,
    "08_without_labels": 2,
}
BUDGET = 150  # seconds that all of them may take together, by the times that they state
CELL_TIMEOUT = 600  # seconds after which a cell counts as stuck, on any machine
# Removes the names and figures of the notebook before.
EMPTY = """\
%reset -f
import sys
if "matplotlib.pyplot" in sys.modules:
    sys.modules["matplotlib.pyplot"].close("all")
del sys
"""
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|Users|root|tmp|work|mnt|opt)/|[A-Z]:\\\\")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def stated_seconds(path):
    first = nbformat.read(path, 4).cells[0]
    assert first.cell_type == "markdown"
    (seconds,) = re.findall(r"\*\*Time:\*\* about (\d+) seconds on 2 cores", first.source)
    return int(seconds)


def test_all_are_listed():
    assert [path.stem for path in NOTEBOOKS] == list(FIGURES)


@every_notebook
def test_stored_without_outputs(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    # Neither the Python of whoever saved it last, nor ids that change with every save.
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    n_cells = len(notebook.cells)
    assert [cell.id for cell in notebook.cells] == [f"cell-{k + 1:02d}" for k in range(n_cells)]
    assert text == nbformat.writes(notebook, indent=1) + "\n"


@every_notebook
def test_says_what_it_is_and_what_it_does_not_show(path):
    cells = nbformat.read(path, 4).cells
    for part in ("# ", "**You learn:**", "**Time:**", "**Needs:**"):
        assert part in cells[0].source
    assert cells[-1].source.startswith("## What this shows, and what it does not")
    assert f"| [{path.stem}](../examples/{path.name}) |" in TABLE
    (row,) = (line for line in TABLE.splitlines() if f"/{path.name})" in line)
    assert int(row.split("|")[-2]) == stated_seconds(path)


@every_notebook
def test_names_no_place_of_one_machine_and_no_missing_file(path):
    for cell in nbformat.read(path, 4).cells:
        assert not MACHINE_PATH.search(cell.source), cell.source
        for name in re.findall(r"`(\w+\.ipynb)`", cell.source):
            assert (path.parent / name).is_file()
        for link in re.findall(r"\]\((?!http)([^)]+)\)", cell.source):
            assert (path.parent / link).is_file()


def test_stay_within_the_budget():
    assert sum(map(stated_seconds, NOTEBOOKS)) <= BUDGET


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all notebooks of a worker: torch and open_clip take longer to import than most of them run."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    env["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))  # none of the user's own settings
    env["CUDA_VISIBLE_DEVICES"] = ""  # 07 would go for the real data and weights
    # With as many threads as cores, torch is many times slower where other processes work too.
    env["OMP_NUM_THREADS"] = "1"
    manager = jupyter_client.KernelManager(kernel_name="python3")
    manager.start_kernel(env=env)
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.notebook
@pytest.mark.filterwarnings("ignore")  # of Jupyter, in this process; the kernel is another one
@every_notebook
def test_runs(path, tmp_path, kernel):
    folder = tmp_path / "cwd"
    folder.mkdir()
    notebook = nbformat.read(path, 4)
    start = EMPTY + f"import os; os.chdir({str(folder)!r}); del os"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
    client = nbclient.NotebookClient(notebook, km=kernel, timeout=CELL_TIMEOUT)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == FIGURES[path.stem]
    assert not any(str(data.get("text/plain", "")).startswith("<Axes") for data in shown)
    assert len(nbformat.writes(notebook)) < 1_000_000  # small for whoever keeps the outputs
    assert list(folder.iterdir()) == []  # nothing is left behind
    if path.stem.startswith("07"):
        printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
        assert printed.startswith("STAND-IN, not the real run: demo on digits")
        assert "REAL RUN" not in printed
