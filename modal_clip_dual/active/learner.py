"""DualPromptLearner: the whole loop of arXiv 2602.04340 over modAL's ActiveLearner."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from modAL.models import ActiveLearner
from sklearn.utils.validation import _num_samples

from .._compat import query_returns_metrics
from ..data.images import as_array, check_files, kind_of
from ..scores import SCORES
from ..strategies import negative_prompt_sampling
from ..strategies.view import call_strategy
from ..utils.arrays import Rows, is_mapped
from ..utils.labels import as_labels, check_labels
from ..utils.persistence import (
    check_target,
)
from ..utils.rollback import unchanged_on_error
from ..utils.validation import check_integer, check_n_instances, check_option
from ._shown import Shown
from .abilities import (
    check_abilities,
    fit_labeled,
    fit_without_labels,
    predictions_of,
    seed,
    takes_pseudo_labels,
)
from .answers import check_new_labels, oracle_of, rows_of
from .log import FIELDS, agreement, asked_for, share_right
from .protocols import FIRST_QUERIES, Protocol, protocol_of
from .pseudo_labels import mine_confident
from .saving import Resuming, name_of

if TYPE_CHECKING:
    pass


class DualPromptLearner(Resuming, Shown, ActiveLearner):
    """modAL's ActiveLearner with a pool, round 0 without labels, and pseudo-labels.

    Given the pool, it trains on zero-shot pseudo-labels before the first query; before each
    re-fit it mines the pool for the samples that the model which made the query is surest of,
    and trains on labels and pseudo-labels together ([1]_, Sec. 3).  Rows are positions in
    ``X_pool``, the same from the first round to the last.

    Parameters
    ----------
    estimator : CLIPClassifier
        Trained in place, anew in every round: a `DualPromptClassifier`, a head of ``modal_clip_dual.heads``, or
        another classifier with ``fit`` and ``predict``.  It is asked for what it can do: round 0 needs
        ``fit_unlabeled``, pseudo-labels need ``X_pseudo`` and ``y_pseudo`` in ``fit``, the estimated accuracy
        ``predict_correct_proba``, and a saved state ``fitted_state``.  Where its ``fit`` takes ``X_pool``, it is
        given the whole pool.
    X_pool : array-like of n_pool samples
        Embeddings, images or paths.
    query_strategy : callable, default=negative_prompt_sampling
        A modAL query strategy.
    n_per_class : int, default=16
        Pseudo-labels per class (K and k of the paper); 0 for none: "selection only".
    first_query : {"strategy", "random"}, default="strategy"
        How the first samples are chosen; methods that need labels to start take them at random.
    stopping : sequence of callable, default=()
        `StablePredictions`, `EstimatedAccuracy`, or your own: called with the log, return a
        reason to stop or None.
    budget : int, default=None
        Labels after which to stop.
    y_pool : array-like of shape (n_pool,), default=None
        The true labels, where they are known: the log then has the accuracy of the
        pseudo-labels and of the predictions.  Never trained on.
    path : str or path-like, default=None
        File in which the state is saved after every query, after labels came and after every
        training; see `resume`.
    random_state : int, default=0
        Decides, together with the round, every training and the draws of strategies that
        take a ``random_state``.

    Attributes
    ----------
    log_ : list of dict
        One record per round: ``round``, ``n_labels``, ``n_pseudo``, ``pseudo_accuracy``,
        ``accuracy`` of the predictions for the unlabeled pool, ``estimated_accuracy`` of the
        same from P(correct), ``kappa`` between this round's predictions for the pool and the
        last's, the ``rows`` that were labeled, their ``scores``: P(correct) by the model that chose
        them, and ``query_seconds`` and ``train_seconds``.  What is not known is None.
    rows_ : ndarray of int
        Labelled rows of the pool, in the order of labeling.
    labels_ : ndarray
        Their labels.
    pseudo_rows_, pseudo_labels_ : ndarray
        The pseudo-labels of the last training.

    See Also
    --------
    DualPromptClassifier.fit : Trains on labels and pseudo-labels in a plain ActiveLearner.
    mine_confident : Chooses the pseudo-labels.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, DualPromptLearner
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualPromptClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> learner = DualPromptLearner(clf, X[:500], y_pool=y[:500])
    >>> rows, images = learner.query(n_instances=10)
    >>> learner.teach(images, y[rows])
    >>> learner
    DualPromptLearner(round 1, 10 of 500 labeled, ... pseudo-labels)
    """

    log_: list[dict[str, Any]]
    rows_: np.ndarray
    labels_: np.ndarray
    pseudo_rows_: np.ndarray
    pseudo_labels_: np.ndarray
    _pool: Any  # an array or Rows
    _truth: np.ndarray | None
    _query: dict[str, Any] | None  # what was asked last: rows, scores, query_seconds
    _pending: dict[str, Any] | None  # rows and labels whose training is not done yet
    _predictions: np.ndarray | None

    def __init__(
        self,
        estimator: Any,
        X_pool: Any,
        *,
        query_strategy: Callable[..., Any] = negative_prompt_sampling,
        n_per_class: int = 16,
        first_query: str = "strategy",
        stopping: Sequence[Callable[[list[dict[str, Any]]], str | None]] = (),
        budget: int | None = None,
        y_pool: Any = None,
        path: str | os.PathLike[str] | None = None,
        random_state: int = 0,
    ):
        self.estimator = estimator
        self.X_pool = X_pool
        self.query_strategy = query_strategy
        self.n_per_class = n_per_class
        self.first_query = first_query
        self.stopping = stopping
        self.budget = budget
        self.y_pool = y_pool
        self.path = path
        self.random_state = random_state
        # What modAL's own constructor sets, where nothing is trained yet.
        self.on_transformed = False
        self.force_all_finite = True
        self._keys: np.ndarray | None = None  # of the pool, computed when the state is saved
        self.X_training: Any = None
        self.y_training: Any = None

    # ---------------------------------------------------------------- the loop

    def start(self) -> DualPromptLearner:
        """Check everything and run round 0, if that has not happened yet; `query` does it too.

        Returns
        -------
        self : DualPromptLearner

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        """
        if hasattr(self, "log_"):
            return self
        self._check()
        if self.path is not None and Path(self.path).exists():
            raise ValueError(
                f"path={str(self.path)!r} exists; DualPromptLearner.resume(path) goes on from it, or "
                "delete it to start anew"
            )
        with unchanged_on_error(self, self.estimator):
            self._start()
        self._save()
        return self

    def _start(self) -> None:
        """Round 0."""
        self.rows_, self.labels_ = np.empty(0, dtype=np.intp), np.empty(0)
        self._query, self._pending, self._predictions = None, None, None
        self.pseudo_rows_, self.pseudo_labels_ = np.empty(0, dtype=np.intp), np.empty(0)
        began = time.perf_counter()
        seed(self.estimator, self.random_state, 0)
        fitted = fit_without_labels(self.estimator, self._pool, self.n_per_class)
        if fitted and hasattr(self.estimator, "pseudo_rows_"):
            self.pseudo_rows_ = self.estimator.pseudo_rows_
            like = self.pseudo_labels_ if self._truth is None else self._truth
            self.pseudo_labels_ = self._as_labels(self.estimator.pseudo_labels_, like)
        self.log_ = []
        self._record(0, time.perf_counter() - began)

    def _check(self) -> None:
        check_abilities(self.estimator, self.path)
        if not callable(self.query_strategy):
            raise TypeError(f"query_strategy={self.query_strategy!r} cannot be called")
        check_integer("n_per_class", self.n_per_class, least=0)
        check_option("first_query", self.first_query, FIRST_QUERIES)
        check_integer("random_state", self.random_state, least=0)
        if self.budget is not None:
            check_integer("budget", self.budget, least=1)
        self._pool = as_array(self.X_pool, "X_pool")
        if kind_of(self._pool) == "paths":
            self._pool = check_files(self._pool, "X_pool")
        self._truth = None if self.y_pool is None else check_labels(self.y_pool, "y_pool")
        if self._truth is not None and len(self._truth) != len(self._pool):
            raise ValueError(f"y_pool has {len(self._truth)} labels, X_pool {len(self._pool)} rows")
        if self.path is not None:
            check_target(self.path)

    @property
    def unlabeled_(self) -> np.ndarray:
        """Rows of the pool that have no label yet, ascending; nothing is trained."""
        n_pool = len(self._pool) if hasattr(self, "_pool") else _num_samples(self.X_pool)
        return np.setdiff1d(np.arange(n_pool), getattr(self, "rows_", ()))

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Refuse to be fitted: the log, the rows and the pool would no longer belong together.

        Parameters
        ----------
        *args, **kwargs
            Whatever modAL's ``fit`` takes.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            "DualPromptLearner.fit does not exist: it would train behind the log; use teach(X, y) or "
            "teach(rows=..., y=...), which add labels and train anew"
        )

    def query(
        self,
        X_pool: Any = None,
        n_instances: int = 1,
        *args: Any,
        return_metrics: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Choose samples of the learner's pool to be labeled.

        A training that was interrupted is finished first.

        Parameters
        ----------
        X_pool : array-like, default=None
            Another pool: then this is modAL's own ``query``, and the rows are those of it.
        n_instances : int, default=1
            Samples to choose.
        *args
            Passed to the strategy.
        return_metrics : bool, default=False
            Return the strategy's scores as well, as modAL 0.4.2 does.
        **kwargs
            Passed to the strategy.

        Returns
        -------
        rows : ndarray of int, shape (n_instances,)
            Positions in ``X_pool``.
        instances : ndarray
            These samples.
        scores : ndarray
            With ``return_metrics``, None if the strategy gave none.

        Raises
        ------
        TypeError, ValueError
            If ``n_instances`` does not fit what is left of the pool, or as `start`.
        """
        if X_pool is not None:
            if query_returns_metrics():
                kwargs["return_metrics"] = return_metrics
            return super().query(X_pool, n_instances, *args, **kwargs)
        self.start()
        if self._pending is not None:
            self._train_round()
        left = self.unlabeled_
        n_instances = check_n_instances(n_instances, len(left))
        began = time.perf_counter()
        rng = np.random.default_rng([self.random_state, len(self.log_)])
        scores = None
        if self.first_query == "random" and not len(self.rows_):
            chosen = rng.permutation(len(left))[:n_instances]
        else:
            seed = int(rng.integers(2**31))
            chosen, scores = call_strategy(
                self.query_strategy, self, self._part(left), n_instances, seed, *args, **kwargs
            )
        rows = left[chosen]
        score = kwargs.get("score")
        self._query = {"rows": rows.tolist(), "scores": self._believed(rows)}
        self._query["score"] = score if isinstance(score, str) else None
        self._query["query_seconds"] = time.perf_counter() - began
        self._save()
        instances = self._pool[rows]
        return (rows, instances, scores) if return_metrics else (rows, instances)

    def teach(
        self,
        X: Any = None,
        y: Any = None,
        bootstrap: bool = False,
        only_new: bool = False,
        *,
        rows: Any = None,
        **fit_kwargs: Any,
    ) -> None:
        """Add labels, mine pseudo-labels with the present model, and train anew.

        Parameters
        ----------
        X : array-like, default=None
            The samples that were queried last, in the same order; not needed with ``rows``.
        y : array-like
            Their labels.
        bootstrap, only_new : bool, default=False
            Of modAL's ``teach``; the rounds of the paper have no place for them.
        rows : array-like of int, default=None
            Positions in the pool, in place of X: any samples without a label.
        **fit_kwargs
            Of modAL's ``teach``; refused, since the learner mines pseudo-labels itself.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; nothing is changed then.
        """
        self.start()
        if bootstrap or only_new or fit_kwargs:
            given = {"bootstrap": bootstrap, "only_new": only_new, **fit_kwargs}
            raise ValueError(
                f"{given}: every round trains on all labels and on pseudo-labels that the learner "
                "mines; modAL's ActiveLearner takes these arguments"
            )
        rows = self._rows_of(X, rows)
        y = check_labels(y)
        if len(y) != len(rows):
            raise ValueError(f"y has {len(y)} labels for {len(rows)} samples")
        if self._pending is not None and set(self._pending["rows"]) != set(rows):
            self._train_round()  # labels of a training that was interrupted are not lost
            rows = self._rows_of(None, rows)
        check_new_labels(y, self.labels_, self._class_names)
        self._pending = {"rows": rows, "labels": y}
        self._save()  # labels are the dearest thing here: kept before anything is computed
        self._train_round()

    def _rows_of(self, X: Any, rows: Any) -> np.ndarray:
        asked = None if self._query is None else np.array(self._query["rows"], dtype=np.intp)
        return rows_of(X, rows, self._pool, asked, self.rows_)

    @property
    def _class_names(self) -> Any:
        return getattr(self.estimator, "class_names", None)

    def _train_round(self) -> None:
        """Mine with the model that made the query, then train on labels and pseudo-labels.

        Whatever interrupts it: the model that made the query is there, and the labels wait.
        """
        with unchanged_on_error(self, self.estimator):
            self._mine_and_train()
        self._save()

    def _mine_and_train(self) -> None:
        began = time.perf_counter()
        pending: Any = self._pending
        rows, y = pending["rows"], pending["labels"]
        labels = y if not len(self.rows_) else np.concatenate([self.labels_, y])
        labeled = np.concatenate([self.rows_, rows])
        pseudo_rows, pseudo = labeled[:0], labels[:0]
        if self.n_per_class and takes_pseudo_labels(self.estimator) and len(labeled) < len(self._pool):
            pseudo_rows, pseudo = mine_confident(
                self.estimator, self._pool, self.n_per_class, exclude=labeled, score=self._score()
            )
            pseudo = self._as_labels(pseudo, labels)
        seed(self.estimator, self.random_state, len(self.log_))
        pseudo_labeled = (self._pool[pseudo_rows], pseudo) if len(pseudo_rows) else None
        fit_labeled(self.estimator, self._pool[labeled], labels, self._pool, pseudo_labeled)
        self.rows_, self.labels_ = labeled, labels
        self.pseudo_rows_, self.pseudo_labels_ = pseudo_rows, pseudo
        self.X_training, self.y_training = self._pool[labeled], labels
        self._pending = None
        self._record(len(rows), time.perf_counter() - began)
        self._query = None

    def _part(self, rows: np.ndarray) -> np.ndarray | Rows:
        """Some rows of the pool; of one that lies in a file, where a strategy allows it, no copy."""
        function = getattr(self.query_strategy, "func", self.query_strategy)  # of a partial
        own = name_of(function) or ""
        if is_mapped(self._pool) and own.startswith("modal_clip_dual."):
            return Rows(self._pool, rows)
        part: np.ndarray = self._pool[rows]
        return part

    def _believed(self, rows: np.ndarray) -> list[float] | None:
        """P(correct) of rows by the present model; None before any training."""
        _, correct = predictions_of(self.estimator, self._pool[rows])
        return None if correct is None else correct.tolist()

    def _score(self) -> str:
        """The score that the query ranked by, if it is one of ours: querying and mining share it."""
        parameter = signature(self.query_strategy).parameters.get("score")
        asked = (self._query or {}).get("score") or getattr(parameter, "default", None)
        if isinstance(asked, str) and asked in SCORES:
            return asked
        return "clean" if hasattr(self.estimator, "clean_logits") else "correct"

    def _as_labels(self, labels: np.ndarray, like: np.ndarray) -> np.ndarray:
        return as_labels(labels, like, self._class_names)

    def _record(self, n_new: int, seconds: float) -> None:
        """Add this round to the log."""
        left = self.unlabeled_ if hasattr(self, "log_") else np.arange(len(self._pool))
        predicted, correct = predictions_of(self.estimator, self._pool)
        if predicted is not None:
            predicted = self._as_labels(predicted, self.labels_ if self._truth is None else self._truth)
        before = self._predictions
        if before is not None and predicted is not None:
            before = self._as_labels(before, predicted)
        pseudo = self.pseudo_labels_ if self._truth is None else self._as_labels(self.pseudo_labels_, self._truth)
        record: dict[str, Any] = {"round": len(self.log_), "n_labels": len(self.rows_)}
        record["n_pseudo"] = len(self.pseudo_rows_)
        record |= agreement(predicted, correct, before, left, self._truth)
        record |= {"pseudo_accuracy": share_right(pseudo, self._truth, self.pseudo_rows_)}
        record |= asked_for(self._query, self.rows_[len(self.rows_) - n_new :]) | {"train_seconds": seconds}
        self.log_.append({name: record[name] for name in FIELDS})
        if predicted is not None:
            self._predictions = predicted

    def stop_reason(self) -> str | None:
        """Say why labeling may stop: the budget, the pool's end or a criterion.

        Returns
        -------
        reason : str or None
            None to go on.
        """
        if not len(self.unlabeled_):
            return "the whole pool is labeled"
        if self.budget is not None and len(getattr(self, "rows_", ())) >= self.budget:
            return f"the budget of {self.budget} labels is spent"
        reasons = (criterion(getattr(self, "log_", [])) for criterion in self.stopping)
        return next((reason for reason in reasons if reason is not None), None)

    def run(
        self,
        oracle: Any,
        *,
        protocol: str | Protocol = "paper",
        on_round: Callable[[dict[str, Any]], Any] | None = None,
    ) -> DualPromptLearner:
        """Query, ask an oracle and train, round by round, until a reason to stop.

        Parameters
        ----------
        oracle : callable or array-like of shape (n_pool,)
            Called with (rows, instances), returns labels; or the labels of the whole pool.
        protocol : {"paper", "pcb"} or Protocol, default="paper"
            ``"paper"`` labels 1% of the pool a round, for 6 rounds; ``"pcb"`` as many samples as there are
            classes, for 8 rounds, the first at random (arXiv 2311.11178).
        on_round : callable, default=None
            Called with each round's record of the log.

        Returns
        -------
        self : DualPromptLearner

        Raises
        ------
        ValueError
            If the protocol is unknown, or needs the number of classes and ``class_names`` is None; if
            the oracle's labels are not as many as the pool's rows.
        """
        protocol = protocol_of(protocol)
        oracle = oracle_of(oracle, _num_samples(self.X_pool))
        if protocol.first_query == "random":
            self.first_query = "random"
        self.start()
        if self._pending is not None:
            self._train_round()
        classes: Any = getattr(self.estimator, "classes_", self._class_names)
        if classes is None and protocol.per_class is not None:
            raise ValueError(
                f"class_names is None, so {protocol} does not know how many labels a round has; expected "
                "class_names, or a protocol with fraction"
            )
        n_instances = protocol.n_instances(len(self._pool), 0 if classes is None else len(classes))
        while len(self.log_) <= protocol.n_rounds and self.stop_reason() is None:
            n = min(n_instances, len(self.unlabeled_))
            if self.budget is not None:
                n = min(n, self.budget - len(self.rows_))
            rows, instances = self.query(n_instances=n)
            self.teach(y=oracle(rows, instances), rows=rows)
            if on_round is not None:
                on_round(self.log_[-1])
        return self
