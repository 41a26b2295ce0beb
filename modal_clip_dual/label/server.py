"""The web server of the page: on this machine, for the one who started it."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ..data.images import UnreadableImagesError
from .exports import export_file, new_folder, offers_of
from .model import shown
from .session import LabelSession
from .thumbnails import LARGE, THUMBNAIL, Thumbnails
from .view import state_of, tiles_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

ANY_ADDRESS = "address"  # among hosts: no foreign name leads here, but numbers may
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ASSETS = {"": ("index.html", "text/html"), "app.js": ("app.js", "text/javascript"),
          "plots.js": ("plots.js", "text/javascript"), "style.css": ("style.css", "text/css"),
          "icon.svg": ("icon.svg", "image/svg+xml")}  # fmt: skip
MOST_BYTES = 4 << 20  # of what the page may post
POLL_SECONDS = 15.0  # that a question for news waits
MOST_TILES = 200
MISSING = 'the page needs Starlette and uvicorn: pip install "modal-clip-dual[label]"'


def check_installed() -> None:
    """Refuse to go on without the web server.

    Raises
    ------
    ImportError
        Says how to install it.
    """
    try:
        import starlette
        import uvicorn

        del starlette, uvicorn
    except ImportError as error:
        raise ImportError(MISSING) from error


def new_token() -> str:
    """Return a word that nobody can guess."""
    return secrets.token_urlsafe(24)


def create_app(
    session: LabelSession, token: str, *, hosts: Sequence[str] = LOOPBACK, frame_ancestors: str = "'none'"
) -> Starlette:
    """Return the page as an ASGI application, everything below ``/TOKEN/``.

    A request is refused unless it names one of the hosts, so that no foreign name that leads here is answered, and
    unless what a browser says of its origin is the page itself.

    Parameters
    ----------
    session : LabelSession
    token : str
        The first part of every address; see `new_token`.
    hosts : sequence of str, default=LOOPBACK
        Names, without port, by which the server may be called; `ANY_ADDRESS` is any address of numbers.
    frame_ancestors : str, default="'none'"
        Pages that may show this one in a frame, as the Content-Security-Policy names them.

    Raises
    ------
    ImportError
        If Starlette is not installed; says how to install it.
    """
    check_installed()
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    page = Page(session)
    routes = [
        Route(f"/{token}/", page.asset),
        Route(f"/{token}/api/state", page.state),
        Route(f"/{token}/api/tiles", page.tiles),
        Route(f"/{token}/api/formats", page.formats),
        Route(f"/{token}/api/export/{{format}}", page.export),
        *(Route(f"/{token}/api/{name}", page.act(name), methods=["POST"]) for name in page.actions),
        Route(f"/{token}/thumb/{{row:int}}", page.picture(THUMBNAIL)),
        Route(f"/{token}/image/{{row:int}}", page.picture(LARGE)),
        Route(f"/{token}/{{name}}", page.asset),
    ]
    guard = Middleware(Guard, hosts=tuple(hosts), frame_ancestors=frame_ancestors)
    return Starlette(routes=routes, middleware=[guard])


class Guard:
    """ASGI middleware that refuses foreign requests and says to the browser what the page may do."""

    def __init__(self, app: Any, hosts: Sequence[str], frame_ancestors: str):
        self.app = app
        self.hosts = hosts
        policy = {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'",
            "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
            "frame-ancestors": frame_ancestors,
        }  # fmt: skip
        self.headers = {
            "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        problem = self.problem(headers, scope["method"])
        if problem:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse(problem, 403, self.headers)(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in self.headers.items() if n.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def problem(self, headers: dict[str, str], method: str) -> str | None:
        """Say why a request is refused, or None."""
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not self.is_called(name.strip("[]")):
            return "this server is not called by that name"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return "a page from elsewhere may not ask here"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            top = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
            if not top:
                return "a page from elsewhere may not ask here"
        if method == "POST" and headers.get("content-type", "").partition(";")[0] != "application/json":
            return "expected application/json"
        return None


    def is_called(self, name: str) -> bool:
        """Whether a name is one of the server's; "address" among the hosts is any address of numbers."""
        if name in self.hosts:
            return True
        with suppress(ValueError):
            return ANY_ADDRESS in self.hosts and bool(ip_address(name))
        return False


class Page:
    """What is answered to the page."""

    def __init__(self, session: LabelSession):
        self.session = session
        self.thumbnails = Thumbnails()
        self.actions: dict[str, Callable[[Any], Any]] = {
            "say": lambda body: session.say([_answer(entry) for entry in body["answers"]]),
            "confirm": lambda body: session.confirm(body["number"], body.get("rows")),
            "undo": lambda body: session.undo(),
            "class": lambda body: session.add_class(body["name"]),
            "budget": lambda body: session.extend_budget(body["n"]),
            "retry": lambda body: session.retry(),
        }

    async def asset(self, request: Request) -> Response:
        """Answer with a file of the page."""
        from starlette.responses import Response

        found = ASSETS.get(request.path_params.get("name", ""))
        if found is None:
            return Response("not found", 404)
        content = files(__package__).joinpath("assets").joinpath(found[0]).read_bytes()
        return Response(content, media_type=found[1])

    async def state(self, request: Request) -> Response:
        """Answer with the state; with ``since``, a version that the page has, as soon as there is news."""
        since = request.query_params.get("since")
        ending = getattr(request.app.state, "ending", bool)
        for _ in range(int(POLL_SECONDS / 0.05)):
            if ending() or since != str(self.session.version) or await request.is_disconnected():
                break
            await asyncio.sleep(0.05)
        return await self._answer(lambda: state_of(self.session))

    async def tiles(self, request: Request) -> Response:
        """Answer with a part of the history or of what the model doubts."""
        query = request.query_params

        def tiles() -> dict[str, Any]:
            n = min(int(query.get("n", 60)), MOST_TILES)
            found, total = self.session.tiles(query.get("kind", ""), max(int(query.get("offset", 0)), 0), n)
            return {"tiles": tiles_of(self.session, found), "total": total}

        return await self._answer(tiles)

    def act(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers a post: it does something and tells the new state."""

        async def act(request: Request) -> Response:
            from starlette.responses import PlainTextResponse

            body = b""
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    return PlainTextResponse("too much", 413)

            def done() -> dict[str, Any]:
                try:
                    said = json.loads(body or b"{}")
                    self.actions[name](said)
                except (KeyError, TypeError, AttributeError) as error:
                    raise ValueError(f"{type(error).__name__}: {error}") from error
                return state_of(self.session)

            return await self._answer(done)

        return act

    def picture(self, size: int) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers with the picture of a row."""

        async def picture(request: Request) -> Response:
            from starlette.concurrency import run_in_threadpool
            from starlette.responses import PlainTextResponse, Response

            row = request.path_params["row"]
            if row >= self.session.n_pool:
                return PlainTextResponse("there is no such image", 404)
            try:
                kind, content = await run_in_threadpool(self.thumbnails.get, self.session.paths, row, size)
            except UnreadableImagesError as error:
                with suppress(OSError):  # a disk that is full takes no answers; the page says so at the next gesture
                    await run_in_threadpool(self.session.lose, row, error.reasons[0])
                return PlainTextResponse("the file cannot be read", 404)
            return Response(content, media_type=kind, headers={"cache-control": "private, max-age=86400"})

        return picture

    async def formats(self, request: Request) -> Response:
        """Answer with the formats of `export`."""
        offers = offers_of(self.session)
        return await self._answer(lambda: [{"name": name, "title": offer.title} for name, offer in offers.items()])

    async def export(self, request: Request) -> Response:
        """Answer with a file of all labels."""
        from starlette.background import BackgroundTask
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import FileResponse, PlainTextResponse

        name = request.path_params["format"]
        offer = offers_of(self.session).get(name)
        if offer is None:
            return PlainTextResponse("there is no such format", 404)
        folder = new_folder()
        try:
            path = await run_in_threadpool(export_file, self.session, name, folder.name)
        except (OSError, ValueError, RuntimeError) as error:
            folder.cleanup()
            return PlainTextResponse(str(error), 400)
        done = BackgroundTask(folder.cleanup)
        return FileResponse(path, media_type=offer.media, filename=offer.file, background=done)

    async def _answer(self, ask: Callable[[], Any]) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse

        try:
            return JSONResponse(await run_in_threadpool(ask))
        except (ValueError, OSError, RuntimeError) as error:
            return JSONResponse({"error": shown(str(error))}, 400)


def _answer(entry: Any) -> tuple[int, str, str | None]:
    row, what, name = entry["row"], entry["what"], entry.get("name")
    return row, what, name


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises
    ------
    OSError
        If the address cannot be had; says which.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio send small answers at once, not 40 ms later.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    listener.listen(128)
    return listener


def web_server(app: Starlette) -> Any:
    """Return a uvicorn server for `create_app`; a question for news that waits is answered when it ends."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="none", server_header=False
    )
    server = uvicorn.Server(config)
    app.state.ending = lambda: server.should_exit
    return server


def serve(session: LabelSession, listener: socket.socket, token: str, hosts: Sequence[str] = LOOPBACK) -> None:
    """Serve the page until Ctrl-C, then take in what was said.

    Raises
    ------
    ImportError
        If Starlette or uvicorn is not installed.
    """
    server = web_server(create_app(session, token, hosts=hosts))
    session.start()
    try:
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        session.close()
