"""How a learner is shown."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from .annotators import table_of_agreement, table_of_answers, table_of_disagreements

if TYPE_CHECKING:
    import pandas as pd

    from .annotations import Annotations


class Shown:
    """The part of `DualPromptLearner` that shows it, as text, table and in notebooks."""

    estimator: Any
    rows_: Any
    pseudo_rows_: Any
    log_: list[dict[str, Any]]
    disagreement: str
    _pool: Any
    _annotations: Annotations

    @property
    def log(self) -> pd.DataFrame:
        """The log as a pandas DataFrame, a row per round."""
        import pandas as pd

        return pd.DataFrame(getattr(self, "log_", []))

    @property
    def annotations(self) -> pd.DataFrame:
        """All that people said, a line per answer, as a pandas DataFrame.

        The columns are ``row``, ``what`` ("label", "skip" or "drop"), ``label``, ``annotator``, ``time`` (UTC)
        and ``counts``: whether the label is the one that is trained on.
        """
        return table_of_answers(self._annotations, self.disagreement)

    @property
    def disagreements(self) -> pd.DataFrame:
        """Rows that annotators labeled differently, as a pandas DataFrame.

        A line per row of the pool, a column per annotator, and in ``counts`` the label that is trained on.
        """
        return table_of_disagreements(self._annotations, self.disagreement)

    @property
    def annotator_agreement(self) -> pd.DataFrame:
        """Cohen's kappa of every two annotators, as a pandas DataFrame.

        The columns are ``annotator_1``, ``annotator_2``, ``n_both`` (rows that both labeled), ``n_agree``
        and ``kappa``, NaN where it is not defined.
        """
        return table_of_agreement(self._annotations)

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
            table = self.log.drop(columns=["rows", "scores", "changes"])
            bundle["text/html"] = f"<p>{escape(repr(self))}</p>" + table.to_html(index=False, float_format="%.3f")
        return bundle
