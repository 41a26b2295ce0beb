"""How a learner is shown."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Shown:
    """The part of `DualPromptLearner` that shows it, as text, table and in notebooks."""

    estimator: Any
    rows_: Any
    pseudo_rows_: Any
    log_: list[dict[str, Any]]
    _pool: Any

    @property
    def log(self) -> pd.DataFrame:
        """The log as a pandas DataFrame, a row per round."""
        import pandas as pd

        return pd.DataFrame(getattr(self, "log_", []))

    def __repr__(self) -> str:
        if not hasattr(self, "log_"):
            return f"DualPromptLearner(not started, {type(self.estimator).__name__})"
        return (
            f"DualPromptLearner(round {len(self.log_) - 1}, {len(self.rows_)} of {len(self._pool)} "
            f"labeled, {len(self.pseudo_rows_)} pseudo-labels)"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        if getattr(self, "log_", None):
            table = self.log.drop(columns=["rows", "scores"])
            bundle["text/html"] = f"<p>{escape(repr(self))}</p>" + table.to_html(index=False, float_format="%.3f")
        return bundle
