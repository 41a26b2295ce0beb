"""The strategy that docs/own-strategy.md writes, with the test class that it shows."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/own-strategy.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
PACKAGE = next(k for k, block in enumerate(BLOCKS) if "query_strategy" in block)

exec(compile("import numpy as np\n" + BLOCKS[PACKAGE], str(PAGE), "exec"))
exec(compile(BLOCKS[PACKAGE + 1], str(PAGE), "exec"))
del StrategyTemplate  # noqa: F821  (from the page; pytest would collect it here)
