"""Send tasks to a real Label Studio, annotate through its API, take the answers back, and teach.

Label Studio lives in an environment of its own:

    python -m venv label-studio && label-studio/bin/pip install label-studio==1.23.2
    python examples/label_studio_round_trip.py --label-studio label-studio/bin/label-studio

The script starts the server on 127.0.0.1 with a database in a temporary folder, and stops it at the end.  What it
asserts is what the guide page "Label Studio" promises.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modal_clip_dual import DualLinearClassifier, DualPromptLearner
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.exchange import export_labels, import_labels
from modal_clip_dual.exchange.formats.label_studio import labeling_config

START_SECONDS = 900  # half a minute on a machine that has nothing else to do


class LabelStudio:
    """A server's API."""

    def __init__(self, url: str, token: str):
        self.url, self.token = url, token

    def ask(self, path: str, content: Any = None) -> Any:
        """GET, or with content POST, and return the JSON of the answer, or its bytes."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = answer.read()
                return json.loads(found) if "json" in answer.headers["Content-Type"] else found
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read()[:500]!r}") from error

    def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            self.ask("/health")
        except (OSError, RuntimeError):
            return False
        return True


@contextmanager
def served(program: str, folder: Path, images: Path) -> Iterator[LabelStudio]:
    """Start a Label Studio that may serve a folder of images."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(20)
    command = [program, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(folder), "--username", "me@example.org", "--password", secrets.token_hex(8)]
    environment = {
        **os.environ,
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(images),
    }
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen([*command, "--user-token", token], env=environment, stdout=log, stderr=log)
    studio = LabelStudio(f"http://127.0.0.1:{port}", token)
    try:
        began = time.monotonic()
        while not studio.is_up():
            if server.poll() is not None or time.monotonic() - began > START_SECONDS:
                raise RuntimeError((folder / "server.log").read_text(errors="replace")[-2000:])
            time.sleep(1)
        yield studio
    finally:
        server.terminate()
        server.wait(30)


def round_trip(studio: LabelStudio, folder: Path, images: Path) -> None:
    """Export, annotate, import; every step is checked."""
    digits = load_digits_images()
    rows = np.random.default_rng(0).permutation(len(digits.target))[:60]
    truth = np.array(digits.class_names)[digits.target[rows]]
    photos = images / "photos"
    photos.mkdir()
    paths = [str(photos / f"{k:02} {name}.png") for k, name in enumerate(truth)]
    for path, row in zip(paths, rows):
        Image.fromarray(digits.images[row]).save(path)
    clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", verbose=0)
    learner = DualPromptLearner(clf, paths, path=folder / "state.npz", y_pool=truth)
    learner.start()
    before = learner.log_[-1]["accuracy"]

    # Tasks with pre-annotations and scores
    tasks = folder / "tasks.json"
    export_labels(learner, tasks, format="label-studio", predictions=True, root=images)
    config = {"title": "digits", "label_config": labeling_config(digits.class_names)}
    project = studio.ask("/api/projects", config)["id"]
    # Label Studio serves files of folders that a project has as storage, and these have to lie below the root.
    storage = {"project": project, "path": str(photos), "use_blob_urls": True, "title": "photos"}
    studio.ask("/api/storages/localfiles", storage)
    done = studio.ask(f"/api/projects/{project}/import", json.loads(tasks.read_text()))
    assert (done["task_count"], done["prediction_count"]) == (60, 60), done
    listed = studio.ask(f"/api/tasks?project={project}&page_size=100&fields=all")["tasks"]
    labels, sure = learner.estimator.predict_with_confidence(paths)
    by_row = {task["data"]["row"]: task for task in listed}
    found = [by_row[row]["predictions"][0] for row in range(60)]
    assert [p["result"][0]["value"]["choices"] for p in found] == [[digits.class_names[k]] for k in labels]
    assert np.allclose([p["score"] for p in found], sure, atol=1e-5)
    assert studio.ask(by_row[7]["data"]["image"]) == Path(paths[7]).read_bytes()
    print(f"{len(listed)} tasks with predictions, scores {min(sure):.2f} to {max(sure):.2f}")

    # A person annotates what the strategy asks for, and skips one
    asked, _ = learner.query(n_instances=12)
    for row in asked[1:].tolist():
        choice = {"from_name": "label", "to_name": "image", "type": "choices"}
        choice["value"] = {"choices": [str(truth[row])]}
        studio.ask(f"/api/tasks/{by_row[row]['id']}/annotations/", {"result": [choice]})
    studio.ask(f"/api/tasks/{by_row[asked[0]]['id']}/annotations/", {"result": [], "was_cancelled": True})

    # The answers come back, and teach
    export = folder / "export.json"
    answer = studio.ask(f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
    export.write_text(json.dumps(answer) if not isinstance(answer, bytes) else answer.decode())
    report = import_labels(learner, export, format="label-studio")
    assert report.n_labels == 11 and report.n_left_out == 1 and not report.unmatched, report
    assert dict(zip(learner.rows_.tolist(), learner.labels_.tolist())) == {
        row: digits.class_names.index(truth[row]) for row in asked[1:].tolist()
    }
    assert learner.annotations["annotator"].nunique() == 1  # the number of the user, which is what the export has
    after = learner.log_[-1]["accuracy"]
    print(f"{report.n_labels} labels came back; accuracy on the others {before:.3f} before, {after:.3f} after")


def main() -> None:
    """Run the round trip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--label-studio", default=shutil.which("label-studio"), metavar="PROGRAM")
    parser.add_argument("--url", help="address of a server that runs already, in place of a new one")
    parser.add_argument("--token", help="its access token; LOCAL_FILES_DOCUMENT_ROOT has to be the temporary folder")
    args = parser.parse_args()
    if args.label_studio is None and args.url is None:
        parser.error("label-studio is not on the path; pip install label-studio==1.23.2 in an environment of its own")
    with tempfile.TemporaryDirectory() as name:
        folder, images = Path(name, "data"), Path(name, "images")
        folder.mkdir()
        images.mkdir()
        if args.url is not None:
            round_trip(LabelStudio(args.url, args.token), folder, images)
        else:
            with served(os.path.abspath(args.label_studio), folder, images) as studio:
                round_trip(studio, folder, images)
    print("round trip done")


if __name__ == "__main__":
    main()
