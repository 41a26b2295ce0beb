"""Pictures of the built site in headless Chromium: wide and narrow, light and dark.

    sphinx-build -W --keep-going -n docs docs/_build
    python docs/screenshots.py --pages index method strategies

Says of every page whether it is wider than its window, which it must not be, and exits with 1 if one
is.  Needs Chromium, and nothing of the network.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
WIDTHS = {"wide": 1400, "narrow": 400}
SCHEMES = {"light": 1, "dark": 0}  # Blink's numbers
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--virtual-time-budget=4000",
]  # fmt: skip

# A window of Chromium cannot be narrower than 500 pixels; a frame can.
FRAME = """<!doctype html><body style="margin:0">
<iframe src="{url}" style="border:0;width:{width}px;height:{height}px" onload="
  const page = this.contentDocument.documentElement;
  document.title = page.scrollWidth + ' ' + page.clientWidth + ' ' + page.scrollHeight;
"></iframe>"""


class Handler(SimpleHTTPRequestHandler):
    """Serves the site, and the frame of a page at ``/_frame/WIDTH/HEIGHT/PAGE``."""

    def do_GET(self):
        if not self.path.startswith("/_frame/"):
            return super().do_GET()
        _, _, width, height, page = self.path.split("/", 4)
        body = FRAME.format(url=f"/{page}", width=width, height=height).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def chromium(program, url, *flags):
    """Run Chromium on one page; return what it prints."""
    with tempfile.TemporaryDirectory() as profile:
        command = [program, *FLAGS, *flags, f"--user-data-dir={profile}", url]
        return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


def main():
    """Take the pictures; 1 if a page is wider than its window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, default=HERE / "_build", help="the built site")
    parser.add_argument("--output", type=Path, default=HERE / "_build/screenshots")
    parser.add_argument("--pages", nargs="+", default=["index"], metavar="PAGE",
                        help='without .html; "all" for all (default: index)')  # fmt: skip
    parser.add_argument("--widths", nargs="+", choices=WIDTHS, default=list(WIDTHS))
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("--height", type=int, default=1600, help="pixels from the top (default: 1600)")
    parser.add_argument("--check-only", action="store_true", help="look at widths, take no pictures")
    args = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("Chromium is not installed")
    pages = args.pages
    if pages == ["all"]:
        found = (path.relative_to(args.site) for path in args.site.rglob("*.html"))
        pages = sorted(
            path.with_suffix("").as_posix() for path in found if not str(path).startswith("_")
        )
    args.output.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=args.site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}"
    overflowing = []
    for page in pages:
        for kind in args.widths:
            width = WIDTHS[kind]
            url = f"{root}/_frame/{width}/{args.height}/{page}.html"
            title = chromium(program, url, "--dump-dom").partition("<title>")[2].partition("</title>")[0]
            scroll, client, height = map(int, title.split())
            wide = scroll > client
            print(f"{page:<50} {kind:<7} {height:6d} pixels high{', WIDER THAN ITS WINDOW' * wide}")
            overflowing += [(page, kind)] * wide
            for scheme in args.schemes if not args.check_only else ():
                target = args.output / f"{page.replace('/', '-')}-{kind}-{scheme}.png"
                chromium(
                    program, url, f"--screenshot={target}", f"--window-size={max(width, 500)},{args.height}",
                    f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
                )  # fmt: skip
    server.shutdown()
    return 1 if overflowing else 0


if __name__ == "__main__":
    sys.exit(main())
