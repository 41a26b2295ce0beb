"""Entry point of ``modal-clip-dual`` and ``python -m modal_clip_dual``; see `cli`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
