"""How a learner is shown."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from .annotators import table_of_agreement, table_of_answers, table_of_disagreements

if TYPE_CHECKING:
    import pandas as pd

    from ..label import NotebookPage
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

    def label(self, **page: Any) -> NotebookPage:
        """Show the page for labeling the pool in the browser, inside of a notebook; needs the extra ``label``.

        The last line of a cell is enough.  While the page is open, the learner belongs to it;
        ``learner.label().close()`` takes in all answers and gives it back.

        Parameters
        ----------
        **page
            Arguments of `modal_clip_dual.label.show`: ``annotator``, ``n_instances``, ``height`` and others.

        Returns
        -------
        page : NotebookPage
            The one that is open already, if there is one and no arguments are given.

        Raises
        ------
        ImportError
            If Starlette or uvicorn is not installed; says how to install them.
        ValueError
            If the pool holds embeddings, which nobody can look at.

        Examples
        --------
        >>> from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
        >>> from modal_clip_dual.data import load_digits_images
        >>> X, y, class_names = load_digits_images().values()
        >>> clf = DualLinearClassifier(class_names, model_name="demo", pretrained="bundled")
        >>> learner = DualPromptLearner(clf, X[:100], query_strategy=auto_sampling)
        >>> learner.label(annotator="ann")
        NotebookPage('http://127.0.0.1:...')
        >>> learner.label().close()
        """
        from ..label import show

        return show(self, **page)

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
