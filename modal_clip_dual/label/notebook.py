"""The page inside of a notebook."""

from __future__ import annotations

import threading
import time
from html import escape
from typing import Any

from ..data.images import as_array, kind_of
from .server import check_installed, create_app, listen, new_token
from .session import LabelSession

# Where notebooks are shown: JupyterLab and Notebook on this machine, and VS Code.
FRAMES = "http://localhost:* http://127.0.0.1:* https://localhost:* vscode-webview: vscode-file:"
START_SECONDS = 30


class NotebookPage:
    """A page that is served from this process until it is closed; a notebook shows it inline.

    `show` makes it of a learner.

    Parameters
    ----------
    session : LabelSession
        What it shows, and what was said.
    height : int, default=760
        Height of the page, in pixels.

    Attributes
    ----------
    url : str
        Its address on this machine, also for a window of its own.

    Examples
    --------
    >>> from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.label import LabelSession, NotebookPage
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualLinearClassifier(dict(zip(class_names, class_names)), model_name="demo", pretrained="bundled")
    >>> page = NotebookPage(LabelSession(DualPromptLearner(clf, X[:50], query_strategy=auto_sampling)))
    >>> page.url.startswith("http://127.0.0.1:")
    True
    >>> page.close()
    """

    def __init__(self, session: LabelSession, height: int = 760):
        import uvicorn

        self.session = session
        self.height = height
        listener, token = listen("127.0.0.1", 0), new_token()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/"
        config = uvicorn.Config(
            create_app(session, token, frame_ancestors=FRAMES), log_level="warning", access_log=False,
            timeout_graceful_shutdown=1, ws="none", server_header=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="page", daemon=True)
        session.start()
        self._thread.start()
        until = time.monotonic() + START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)

    def close(self) -> None:
        """Take in what was said, and end the page; the learner may be used again."""
        self._server.should_exit = True
        self._thread.join()
        self.session.close()

    def _repr_html_(self) -> str:
        return f'<iframe src="{escape(self.url)}" width="100%" height="{self.height}" frameborder="0"></iframe>'

    def __repr__(self) -> str:
        return f"NotebookPage({self.url!r})"


def show(learner: Any, *, height: int = 760, **session: Any) -> NotebookPage:
    """Show the page for a learner inside of a notebook: the last line of a cell is enough.

    The page is an IFrame of a server in this process, bound to this machine.  While it is open, the learner belongs
    to it: it trains and chooses behind the page.  `NotebookPage.close` gives it back, with all labels.

    Parameters
    ----------
    learner : DualPromptLearner
        Its pool must hold paths or images.
    height : int, default=760
        Height of the page, in pixels.
    **session
        Arguments of `LabelSession`: ``n_instances``, ``n_random``, ``annotator``.

    Returns
    -------
    page : NotebookPage

    Raises
    ------
    ImportError
        If Starlette or uvicorn is not installed.
    ValueError
        If the learner's pool holds embeddings, which nobody can look at.

    Examples
    --------
    >>> from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.label import show
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualLinearClassifier(dict(zip(class_names, class_names)), model_name="demo", pretrained="bundled")
    >>> learner = DualPromptLearner(clf, X[:100], query_strategy=auto_sampling)
    >>> page = show(learner)
    >>> page
    NotebookPage('http://127.0.0.1:...')
    >>> page.close()
    """
    check_installed()
    if kind_of(as_array(learner.X_pool, "X_pool")) == "embeddings":
        raise ValueError("learner.X_pool holds embeddings, which nobody can look at; expected paths or images")
    return NotebookPage(LabelSession(learner, **session), height)
