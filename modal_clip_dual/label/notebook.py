"""The page inside of a notebook."""

from __future__ import annotations

import threading
import time
from html import escape
from typing import Any
from urllib.parse import urlsplit

from ..data.images import as_array, kind_of
from .server import LOOPBACK, check_installed, create_app, listen, new_token, web_server
from .session import LabelSession

# Where notebooks are shown: JupyterLab and Notebook on this machine, and VS Code.
FRAMES = "http://localhost:* http://127.0.0.1:* https://localhost:* vscode-webview: vscode-file:"
START_SECONDS = 30
HEIGHT = 760

_open: list[NotebookPage] = []  # pages of this process that are not closed yet


class NotebookPage:
    """A page that is served from this process until it is closed; a notebook shows it inline.

    `show` makes it of a learner.

    Parameters
    ----------
    session : LabelSession
        What it shows, and what was said.
    height : int, default=760
        Height of the page, in pixels.
    port : int, default=0
        Port to listen on; 0 takes a free one.
    address : str, default=None
        Where the browser reaches that port, if it runs on another machine than this process, with ``{port}`` in the
        place of the number; see `show`.

    Attributes
    ----------
    url : str
        Its address in the browser, also for a window of its own.

    Raises
    ------
    OSError
        If the port is taken.
    ValueError
        If ``address`` does not fit.

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

    def __init__(
        self, session: LabelSession, height: int = HEIGHT, *, port: int = 0, address: str | None = None
    ):
        self.session = session
        self.height = height
        hosts, frames = list(LOOPBACK), FRAMES
        if address is not None:
            host, origin = check_address(address)
            hosts, frames = [*hosts, host], f"{frames} {origin}"
        listener, token = listen("127.0.0.1", port), new_token()
        port = listener.getsockname()[1]
        base = f"http://127.0.0.1:{port}" if address is None else address.replace("{port}", str(port)).rstrip("/")
        self.url = f"{base}/{token}/"
        self._server = web_server(create_app(session, token, hosts=hosts, frame_ancestors=frames))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="page", daemon=True)
        session.start()
        self._thread.start()
        until = time.monotonic() + START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        _open.append(self)

    def close(self) -> None:
        """Take in what was said, and end the page; the learner may be used again.

        It waits for a training that is going on.
        """
        self._server.should_exit = True
        self._thread.join()
        self.session.close(None)
        if self in _open:
            _open.remove(self)

    def _repr_html_(self) -> str:
        return f'<iframe src="{escape(self.url)}" width="100%" height="{self.height}" frameborder="0"></iframe>'

    def __repr__(self) -> str:
        return f"NotebookPage({self.url!r})"


def check_address(address: str) -> tuple[str, str]:
    """Return the name of the host and the origin of an address under which a browser reaches the page.

    Raises
    ------
    ValueError
        If it is no whole address, or says nothing of the port.
    """
    parts = urlsplit(address if isinstance(address, str) else "")
    if parts.scheme not in ("http", "https") or not parts.hostname or "{port}" not in address:
        raise ValueError(
            f"address={address!r}; expected how the browser reaches a port of this machine, such as "
            "'https://hub.example.org/user/me/proxy/{port}/', with {port} in the place of the number"
        )
    return parts.hostname, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".replace("{port}", "*")


def show(
    learner: Any, *, height: int = HEIGHT, port: int = 0, address: str | None = None, **session: Any
) -> NotebookPage:
    """Show the page for a learner inside of a notebook: the last line of a cell is enough.

    The page is an IFrame of a server in this process, bound to this machine.  While it is open, the learner belongs
    to it: it trains and chooses behind the page.  `NotebookPage.close` gives it back, with all labels.  A learner
    has one page at a time: ``show(learner)`` returns the one that is open; other arguments close it and open another.

    Parameters
    ----------
    learner : DualPromptLearner
        Its pool must hold paths or images.
    height : int, default=760
        Height of the page, in pixels.
    port : int, default=0
        Port to listen on, for those who forward it; 0 takes a free one.
    address : str, default=None
        Where the browser reaches that port, if it runs on another machine than the kernel, with ``{port}`` in the
        place of the number: ``"https://hub.example.org/user/me/proxy/{port}/"`` behind jupyter-server-proxy.  None
        is this machine.
    **session
        Arguments of `LabelSession`: ``n_instances``, ``n_random``, ``annotator``.

    Returns
    -------
    page : NotebookPage

    Raises
    ------
    ImportError
        If Starlette or uvicorn is not installed.
    OSError
        If the port is taken.
    ValueError
        If the learner's pool holds embeddings, which nobody can look at, or ``address`` does not fit.

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
    >>> show(learner) is page
    True
    >>> page.close()
    """
    check_installed()
    if kind_of(as_array(learner.X_pool, "X_pool")) == "embeddings":
        raise ValueError("learner.X_pool holds embeddings, which nobody can look at; expected paths or images")
    if address is not None:
        check_address(address)
    for page in [page for page in _open if page.session.learner is learner]:
        if (height, port, address, session) == (HEIGHT, 0, None, {}):
            return page
        page.close()
    return NotebookPage(LabelSession(learner, **session), height, port=port, address=address)
