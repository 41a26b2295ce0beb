"""DualPromptLearner: the whole loop of arXiv 2602.04340 over modAL's ActiveLearner."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from modAL.models import ActiveLearner
from sklearn.metrics import cohen_kappa_score
from sklearn.utils.validation import _num_samples

from .._compat import query_returns_metrics
from ..classifier import NOT_SAVED, DualPromptClassifier
from ..data.images import as_array, check_files, kind_of
from ..scores import SCORES
from ..strategies import mine_confident, negative_prompt_sampling
from ..strategies.view import call_strategy
from ..utils.arrays import Rows, is_mapped
from ..utils.labels import check_labels, encode_labels, resolve_labels
from ..utils.persistence import (
    check_target,
    plain,
    plain_params,
    read_state,
    write_state,
)
from ..utils.rollback import unchanged_on_error
from ..utils.validation import check_integer, check_n_instances
from .protocols import PROTOCOLS, Protocol
from .saving import compare_pools, estimator_of, keys_of, name_of, strategy_of

if TYPE_CHECKING:
    import pandas as pd


class DualPromptLearner(ActiveLearner):
    """modAL's ActiveLearner with a pool, round 0 without labels, and pseudo-labels.

    Given the pool, it trains on zero-shot pseudo-labels before the first query; before each
    re-fit it mines the pool for the samples that the model which made the query is surest of,
    and trains on labels and pseudo-labels together ([1]_, Sec. 3).  Rows are positions in
    ``X_pool``, the same from the first round to the last.

    Parameters
    ----------
    estimator : DualPromptClassifier
        Trained in place, anew in every round.
    X_pool : array-like of n_pool samples
        Embeddings, images or paths.
    query_strategy : callable, default=negative_prompt_sampling
        A modAL query strategy.
    n_pseudo : int, default=16
        Pseudo-labels per class (K and k of the paper); 0 for none: "selection only".
    random_first_query : bool, default=False
        Choose the first samples at random, as methods do that need labels to start.
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
        ``accuracy`` of the predictions for the unlabelled pool, ``estimated_accuracy`` of the
        same from P(correct), ``kappa`` between this round's predictions for the pool and the
        last's, the ``rows`` that were labelled, their ``scores``: P(correct) by the model that chose
        them, and ``query_seconds`` and ``train_seconds``.  What is not known is None.
    rows_ : ndarray of int
        Labelled rows of the pool, in the order of labelling.
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
    DualPromptLearner(round 1, 10 of 500 labelled, ... pseudo-labels)
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
        estimator: DualPromptClassifier,
        X_pool: Any,
        *,
        query_strategy: Callable[..., Any] = negative_prompt_sampling,
        n_pseudo: int = 16,
        random_first_query: bool = False,
        stopping: Sequence[Callable[[list[dict[str, Any]]], str | None]] = (),
        budget: int | None = None,
        y_pool: Any = None,
        path: str | os.PathLike[str] | None = None,
        random_state: int = 0,
    ):
        self.estimator = estimator
        self.X_pool = X_pool
        self.query_strategy = query_strategy
        self.n_pseudo = n_pseudo
        self.random_first_query = random_first_query
        self.stopping = stopping
        self.budget = budget
        self.y_pool = y_pool
        self.path = path
        self.random_state = random_state
        # What modAL's own constructor sets, where nothing is trained yet.
        self.on_transformed = False
        self.force_all_finite = True
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
        if self.n_pseudo:
            self._seed_estimator(0)
            self.estimator.fit_unlabeled(self._pool, n_per_class=self.n_pseudo)
            self.pseudo_rows_ = self.estimator.pseudo_rows_
            self.pseudo_labels_ = self._as_labels(
                self.estimator.pseudo_labels_,
                self.pseudo_labels_ if self._truth is None else self._truth,
            )
        self.log_ = []
        self._record(0, time.perf_counter() - began)

    def _check(self) -> None:
        if not isinstance(self.estimator, DualPromptClassifier):
            raise TypeError(
                f"estimator is a {type(self.estimator).__name__}; expected a DualPromptClassifier "
                "(other estimators go into modAL's ActiveLearner)"
            )
        if not callable(self.query_strategy):
            raise TypeError(f"query_strategy={self.query_strategy!r} cannot be called")
        check_integer("n_pseudo", self.n_pseudo, least=0)
        check_integer("random_state", self.random_state, least=0)
        if self.budget is not None:
            check_integer("budget", self.budget, least=1)
        self._pool = as_array(self.X_pool, "X_pool")
        if kind_of(self._pool) == "paths":
            check_files(self._pool, "X_pool")
        self._truth = None if self.y_pool is None else check_labels(self.y_pool, "y_pool")
        if self._truth is not None and len(self._truth) != len(self._pool):
            raise ValueError(f"y_pool has {len(self._truth)} labels, X_pool {len(self._pool)} rows")
        if self.path is not None:
            check_target(self.path)

    @property
    def unlabelled_(self) -> np.ndarray:
        """Rows of the pool that have no label yet, ascending."""
        self.start()
        return np.setdiff1d(np.arange(len(self._pool)), self.rows_)

    def query(
        self,
        X_pool: Any = None,
        n_instances: int = 1,
        *args: Any,
        return_metrics: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Choose samples of the learner's pool to be labelled.

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
        left = self.unlabelled_
        n_instances = check_n_instances(n_instances, len(left))
        began = time.perf_counter()
        rng = np.random.default_rng([self.random_state, len(self.log_)])
        scores = None
        if self.random_first_query and not len(self.rows_):
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
        self._check_labels(y)
        self._pending = {"rows": rows, "labels": y}
        self._save()  # labels are the dearest thing here: kept before anything is computed
        self._train_round()

    def _rows_of(self, X: Any, rows: Any) -> np.ndarray:
        asked = None if self._query is None else np.array(self._query["rows"], dtype=np.intp)
        if rows is None:
            if X is None:
                raise ValueError("teach needs X, the samples that were queried last, or rows")
            X = as_array(X)
            if asked is None or not np.array_equal(X, self._pool[asked]):
                raise ValueError(
                    "X are not the samples that were queried last; expected those, in the same "
                    "order, or rows, their positions in the pool"
                )
            rows = asked
        rows = np.asarray(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
            raise ValueError(f"rows={rows!r}; expected positions in the pool")
        if rows.min() < 0 or rows.max() >= len(self._pool) or len(np.unique(rows)) < len(rows):
            last = len(self._pool) - 1
            raise ValueError(f"rows={rows!r}; expected distinct positions from 0 to {last}")
        again = np.intersect1d(rows, self.rows_)
        if len(again):
            raise ValueError(f"rows {again.tolist()} have a label already")
        positions: np.ndarray = rows.astype(np.intp)
        return positions

    def _check_labels(self, y: np.ndarray) -> None:
        """Refuse labels that cannot be trained on, alone or together with those before."""
        if len(self.labels_) and _are_names(y) != _are_names(self.labels_):
            kinds = ("positions", "names") if _are_names(y) else ("names", "positions")
            before, now = self.labels_[:1].tolist()[0], y[:1].tolist()[0]
            raise ValueError(
                f"the labels so far are {kinds[0]} such as {before!r}, y holds {kinds[1]} such as {now!r}; "
                "expected one kind"
            )
        labels = np.concatenate([self.labels_, y]) if len(self.labels_) else y
        classes, _, _ = resolve_labels(self.estimator.class_names, labels)
        encode_labels(y, classes)

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
        labelled = np.concatenate([self.rows_, rows])
        pseudo_rows, pseudo = labelled[:0], labels[:0]
        if self.n_pseudo and len(labelled) < len(self._pool):
            pseudo_rows, pseudo = mine_confident(
                self.estimator, self._pool, self.n_pseudo, exclude=labelled, score=self._score()
            )
            pseudo = self._as_labels(pseudo, labels)
        self._seed_estimator(len(self.log_))
        extra = {"X_pseudo": self._pool[pseudo_rows], "y_pseudo": pseudo} if len(pseudo_rows) else {}
        self.estimator.fit(self._pool[labelled], labels, **extra)
        self.rows_, self.labels_ = labelled, labels
        self.pseudo_rows_, self.pseudo_labels_ = pseudo_rows, pseudo
        self.X_training, self.y_training = self._pool[labelled], labels
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
        if not hasattr(self.estimator, "classes_"):
            return None
        believed: list[float] = self.estimator.predict_correct_proba(self._pool[rows]).tolist()
        return believed

    def _score(self) -> str:
        """The score that the query ranked by, if it is one of ours: querying and mining share it."""
        parameter = signature(self.query_strategy).parameters.get("score")
        asked = (self._query or {}).get("score") or getattr(parameter, "default", None)
        return asked if isinstance(asked, str) and asked in SCORES else "clean"

    def _as_labels(self, labels: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Positions in a list of class names as names, or names as positions, as `like` has them."""
        names = self.estimator.class_names
        if names is None or isinstance(names, Mapping):
            return labels
        if labels.dtype.kind in "iu" and _are_names(like):
            named: np.ndarray = np.array(list(names))[labels]
            return named
        if _are_names(labels) and like.dtype.kind in "iu":
            position = {name: k for k, name in enumerate(names)}
            return np.array([position[name] for name in labels.tolist()], dtype=like.dtype)
        return labels

    def _seed_estimator(self, round_: int) -> None:
        sequence = np.random.SeedSequence([self.random_state, round_])
        self.estimator.set_params(random_state=int(sequence.generate_state(1)[0] >> 1))

    def _record(self, n_new: int, seconds: float) -> None:
        left = self.unlabelled_ if hasattr(self, "log_") else np.arange(len(self._pool))
        asked = self._query or {"rows": None, "scores": None, "query_seconds": 0.0}
        record = {
            "round": len(self.log_), "n_labels": len(self.rows_), "n_pseudo": len(self.pseudo_rows_),
            "pseudo_accuracy": None, "accuracy": None, "estimated_accuracy": None, "kappa": None,
            **{name: asked[name] for name in ("rows", "scores", "query_seconds")}, "train_seconds": seconds,
        }  # fmt: skip
        if n_new and record["rows"] != self.rows_[-n_new:].tolist():  # labels of others than asked
            record["rows"], record["scores"] = self.rows_[-n_new:].tolist(), None
        if hasattr(self.estimator, "classes_"):
            like = self._truth if self._truth is not None else self.labels_
            predicted, sure = self.estimator._predict_with_correct(self._pool)
            predicted = self._as_labels(predicted, like)
            if len(left):
                record["estimated_accuracy"] = float(sure[left].mean())
            if self._predictions is not None:
                last = self._as_labels(self._predictions, predicted)
                same = np.array_equal(last, predicted)  # kappa is not defined for one class only
                record["kappa"] = 1.0 if same else float(cohen_kappa_score(last, predicted))
            self._predictions = predicted
            if self._truth is not None and len(left):
                record["accuracy"] = float((predicted[left] == self._truth[left]).mean())
        if self._truth is not None and len(self.pseudo_rows_):
            pseudo = self._as_labels(self.pseudo_labels_, self._truth)
            right = pseudo == self._truth[self.pseudo_rows_]
            record["pseudo_accuracy"] = float(right.mean())
        self.log_.append(record)

    def stop_reason(self) -> str | None:
        """Say why labelling may stop: the budget, the pool's end or a criterion.

        Returns
        -------
        reason : str or None
            None to go on.
        """
        self.start()
        if len(self.rows_) == len(self._pool):
            return "the whole pool is labelled"
        if self.budget is not None and len(self.rows_) >= self.budget:
            return f"the budget of {self.budget} labels is spent"
        reasons = (criterion(self.log_) for criterion in self.stopping)
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
        protocol : {"paper", "1pct", "pcb"} or Protocol, default="paper"
            ``"paper"`` or ``"1pct"``: 1% of the pool a round, 6 rounds.  ``"pcb"``: as many labels as classes
            a round, 8 rounds, the first at random (arXiv 2311.11178).
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
        if not isinstance(protocol, Protocol):
            if protocol not in PROTOCOLS:
                raise ValueError(
                    f"protocol={protocol!r}; expected one of {sorted(PROTOCOLS)} or a Protocol"
                )
            protocol = PROTOCOLS[protocol]
        if not callable(oracle):
            labels = check_labels(oracle, "oracle")
            n_pool = _num_samples(self.X_pool)
            if len(labels) != n_pool:
                raise ValueError(f"oracle has {len(labels)} labels, X_pool {n_pool} rows")

            def oracle(rows: np.ndarray, instances: Any) -> Any:
                return labels[rows]

        self.random_first_query = self.random_first_query or protocol.random_first_query
        self.start()
        if self._pending is not None:
            self._train_round()
        classes: Any = getattr(self.estimator, "classes_", self.estimator.class_names)
        if classes is None and protocol.per_class is not None:
            raise ValueError(
                f"class_names is None, so {protocol} does not know how many labels a round has; expected "
                "class_names, or a protocol with fraction"
            )
        n_instances = protocol.n_instances(len(self._pool), 0 if classes is None else len(classes))
        while len(self.log_) <= protocol.n_rounds and self.stop_reason() is None:
            n = min(n_instances, len(self.unlabelled_))
            if self.budget is not None:
                n = min(n, self.budget - len(self.rows_))
            rows, instances = self.query(n_instances=n)
            self.teach(y=oracle(rows, instances), rows=rows)
            if on_round is not None:
                on_round(self.log_[-1])
        return self

    # ---------------------------------------------------------------- state

    def _save(self) -> None:
        if self.path is None:
            return
        fitted = "_net" in self.estimator.__dict__
        prompts, arrays = self.estimator._saved_prompts() if fitted else (None, {})
        settings = {
            "prompts": prompts,
            "estimator": plain_params(self.estimator, without=("random_state", *NOT_SAVED)),
            "query_strategy": name_of(self.query_strategy),
            "n_pseudo": int(self.n_pseudo),
            "random_first_query": bool(self.random_first_query),
            "budget": None if self.budget is None else int(self.budget),
            "random_state": int(self.random_state),
            "log": self.log_,
            "query": self._query,
        }
        arrays = {f"prompt.{name}": value for name, value in arrays.items()}
        arrays |= {"rows": self.rows_, "labels": plain(self.labels_)}
        arrays |= {"pseudo_rows": self.pseudo_rows_, "pseudo_labels": plain(self.pseudo_labels_)}
        if self._pending is not None:
            arrays["pending_rows"] = self._pending["rows"]
            arrays["pending_labels"] = plain(self._pending["labels"])
        if self._predictions is not None:
            arrays["predictions"] = plain(self._predictions)
        arrays["pool_keys"] = self._pool_keys()
        if kind_of(self._pool) == "paths":
            arrays["pool_paths"] = np.array([os.path.abspath(path) for path in self._pool], dtype=str)
        write_state(self.path, "learner", settings, arrays)

    def _pool_keys(self) -> np.ndarray:
        """Identity of each sample, (n, 16) uint8."""
        if not hasattr(self, "_keys"):
            self._keys = keys_of(self._pool)
        return self._keys

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        X_pool: Any = None,
        *,
        estimator: DualPromptClassifier | None = None,
        query_strategy: Callable[..., Any] | None = None,
        stopping: Sequence[Callable[[list[dict[str, Any]]], str | None]] = (),
        y_pool: Any = None,
    ) -> DualPromptLearner:
        """Go on from a saved state, to exactly what an uninterrupted run would give.

        Labels that had come before an interruption are there; a training that was
        interrupted is done now.

        Parameters
        ----------
        path : str or path-like
            The ``path`` of the learner; it goes on saving there.
        X_pool : array-like, default=None
            The same pool; not needed if it consists of paths.
        estimator : DualPromptClassifier, default=None
            Needed only if a parameter of the saved one was no plain value, and for its
            ``cache_folder``, which is not saved.
        query_strategy : callable, default=None
            Needed only if the saved one was no function of this package or of modAL.
        stopping : sequence of callable, default=()
            As in the constructor; not saved.
        y_pool : array-like of shape (n_pool,), default=None
            As in the constructor; not saved.

        Returns
        -------
        learner : DualPromptLearner

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no saved state, something is needed that it does not hold, or the pool
            is not the same; says what differs.
        """
        settings, arrays = read_state(path, "learner")
        if estimator is None:
            estimator = estimator_of(settings["estimator"])
        if query_strategy is None:
            query_strategy = strategy_of(settings["query_strategy"])
        if X_pool is None:
            if "pool_paths" not in arrays:
                raise ValueError("X_pool is not in the saved state, since it holds no paths; pass it")
            X_pool = arrays["pool_paths"].tolist()
        names = ("n_pseudo", "random_first_query", "budget", "random_state")
        learner = cls(
            estimator, X_pool, query_strategy=query_strategy, stopping=stopping, y_pool=y_pool,
            path=path, **{name: settings[name] for name in names},
        )  # fmt: skip
        learner._check()
        compare_pools(arrays["pool_keys"], learner._pool_keys())
        if settings["prompts"] is not None:
            prompts = {
                name.removeprefix("prompt."): value
                for name, value in arrays.items()
                if name.startswith("prompt.")
            }
            estimator._restore_prompts(settings["prompts"], prompts)
        learner.rows_, learner.labels_ = arrays["rows"], arrays["labels"]
        learner.pseudo_rows_ = arrays["pseudo_rows"]
        learner.pseudo_labels_ = arrays["pseudo_labels"]
        learner.log_, learner._query = settings["log"], settings["query"]
        learner._predictions = arrays.get("predictions")
        learner._pending = None
        if len(learner.rows_):
            learner.X_training = learner._pool[learner.rows_]
            learner.y_training = learner.labels_
        if "pending_rows" in arrays:
            labels = arrays["pending_labels"]
            learner._pending = {"rows": arrays["pending_rows"], "labels": labels}
            learner._train_round()
        return learner

    # ---------------------------------------------------------------- shown

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
            f"labelled, {len(self.pseudo_rows_)} pseudo-labels)"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        if getattr(self, "log_", None):
            table = self.log.drop(columns=["rows", "scores"])
            bundle["text/html"] = f"<p>{escape(repr(self))}</p>" + table.to_html(index=False, float_format="%.3f")
        return bundle


def _are_names(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "OUST"
