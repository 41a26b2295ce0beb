"""DualPromptLearner: the whole loop of arXiv 2602.04340 over modAL's ActiveLearner."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from modAL.models import ActiveLearner

from .._compat import query_returns_metrics
from ..data.files import looking_once
from ..data.images import EXPECTED, as_array, rows_called
from ..strategies.asking import check_can_ask
from ..strategies.view import call_strategy
from ..utils.arrays import n_samples
from ..utils.labels import check_known_labels, check_labels
from ..utils.persistence import check_target
from ..utils.rollback import unchanged_on_error
from ..utils.validation import check_n_instances
from ._shown import Shown
from .abilities import default_strategy
from .annotations import DISAGREEMENTS, Annotations
from .answers import check_annotator, oracle_of, refuse_repeated, rows_of
from .class_names import kept
from .corrections import Correcting
from .files import Watching
from .identity import absolute, missing_rows, named_rows
from .pool import Pooled, part_of
from .protocols import Protocol, protocol_of
from .saving import Resuming, name_of
from .settings import check_settings
from .stopping import reason_of
from .training import Training

FIXED = ("X_pool", "y_pool", "path")  # parameters that are looked at once, at the start


class DualPromptLearner(Training, Correcting, Resuming, Watching, Pooled, Shown, ActiveLearner):
    """modAL's ActiveLearner with a pool, round 0 without labels, and pseudo-labels.

    Given the pool, it trains on pseudo-labels before the first query, and in every later round on
    labels and pseudo-labels together, which are chosen anew each time.  By default a
    `DualLinearClassifier`, which learns from the pool, gives them to prompts.  In the paper zero-shot
    CLIP gives the first ones, and then the model that made the query, to the samples that it is
    surest of ([1]_, Sec. 3).  Rows are positions in ``X_pool``, the same from the first round to the
    last.

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
    query_strategy : callable or None, default=None
        A modAL query strategy.  None is `auto_sampling`, and for the paper's ``criterion="dual"`` the paper's
        `negative_prompt_sampling`; docs/learners.md compares them.
    n_per_class : int, None or "auto", default="auto"
        Pseudo-labels per class (K and k of the paper); 0 for none: "selection only"; None for all of the pool.
        ``"auto"`` is 16, as in the paper; with ``"transductive"`` it is all of the pool, or of a larger one 2,000
        samples that are spread over it.
    pseudo_labels : {"auto", "own", "transductive", "collaborative"}, default="auto"
        Who gives the pseudo-labels.  ``"own"``: the model that made the query, as in [1]_.  ``"transductive"``: a
        `DualLinearClassifier` on the same frozen CLIP, whose mixtures are fitted to the pool.  ``"collaborative"``:
        the model that made the query, but only those that a second one accepts, trained on the same samples from
        another random start ([2]_, `collaborative_pseudo_labels`), which doubles the time of training.  ``"auto"`` is
        ``"transductive"`` for a classifier on a CLIP that does not learn from the pool itself, such as
        `DualPromptClassifier` with its defaults, and ``"own"`` for others and for the paper's
        ``criterion="dual"``.
    calibration : {"auto", "judge", "own", "transductive"} or None, default="auto"
        Who says how likely the predicted labels are right, in the log and in `predict_correct_proba`.  With
        ``"judge"`` it is a `DualLinearClassifier` on the same frozen CLIP, which knows the pool and is trained once a
        round.  ``"own"`` calibrates what the estimator says on labeled samples out of fold, which trains it up to
        ten times more, and ``"transductive"`` does so for both; see `CalibratedCorrectness`.  None leaves it to the
        estimator's own ``predict_correct_proba``.  ``"auto"`` is the judge for a classifier on a CLIP that does not
        learn from the pool itself, such as `DualPromptClassifier`, and None for others.
    first_query : {"strategy", "random"}, default="strategy"
        How the first samples are chosen; methods that need labels to start take them at random.
    stopping : sequence of callable, default=()
        A list of `StablePredictions`, `EstimatedAccuracy`, or your own: called with the log, each returns a
        reason to stop as text, or None.
    budget : int, default=None
        Labels after which to stop: `query` asks for no more than are left of it.
    y_pool : array-like of shape (n_pool,), default=None
        The true labels, where they are known: the log then has the accuracy of the
        pseudo-labels and of the predictions.  Never trained on.
    path : str or path-like, default=None
        File in which the state is saved after every query, after labels came and after every
        training; see `resume`.  One process at a time works with it; see `close`.
    disagreement : {"last", "majority"}, default="last"
        Which label counts where annotators gave a sample different ones: the last, or that of most, among
        equally many the last of these.  Set while the loop runs, it is saved, and the next training takes it in.
    random_state : int, default=0
        Decides, together with the round, every training and the draws of strategies that
        take a ``random_state``.

    Attributes
    ----------
    log_ : list of dict
        One record per round: ``round``, ``n_labels``, ``n_pseudo``, ``pseudo_accuracy``,
        ``accuracy`` of the predictions for the unlabeled pool, ``estimated_accuracy`` of the
        same from P(correct), its 90% ``accuracy_interval`` [low, high] where it is calibrated or judged,
        ``kappa`` between this round's predictions for the pool and the last's, the ``rows`` that
        were labeled, their ``scores``: P(correct) by the model that chose them, ``changes``
        since the round before (`relabel`, `forget`, `skip`, `drop`, `extend`, `add_class`, ``disagreement``),
        and ``query_seconds`` and ``train_seconds``.  What is not known is None.
    rows_ : ndarray of int
        Labeled rows of the pool, in the order of labeling; read-only.
    labels_ : ndarray
        Their labels that count; to assign to some is to `relabel` them, without training.
    paths_ : list of str or None
        Absolute paths of the pool's files; None if it holds no files.
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
    .. [2] "CoFT", arXiv:2602.04337.

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

    def __init__(
        self,
        estimator: Any,
        X_pool: Any,
        *,
        query_strategy: Callable[..., Any] | None = None,
        n_per_class: int | str | None = "auto",
        pseudo_labels: str = "auto",
        calibration: str | None = "auto",
        first_query: str = "strategy",
        stopping: Sequence[Callable[[list[dict[str, Any]]], str | None]] = (),
        budget: int | None = None,
        y_pool: Any = None,
        path: str | os.PathLike[str] | None = None,
        disagreement: str = "last",
        random_state: int = 0,
    ):
        self._folder = os.getcwd()  # relative paths begin here, wherever the process goes
        self.estimator = estimator
        self.X_pool = X_pool
        self.query_strategy = default_strategy(estimator) if query_strategy is None else query_strategy
        self.n_per_class = n_per_class
        self.pseudo_labels = pseudo_labels
        self.calibration = calibration
        self.first_query = first_query
        self.stopping = stopping
        self.budget = budget
        self.y_pool = y_pool
        self.path = path
        self.disagreement = disagreement
        self.random_state = random_state
        # What modAL's own constructor sets, where nothing is trained yet.
        self.on_transformed = False
        self.force_all_finite = True
        self._annotations, self._gone = Annotations(), np.empty(0, dtype=np.intp)
        self._keys: np.ndarray | None = None  # of a pool of files; of others computed when the state is saved
        self.X_training: Any = None
        self.y_training: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and "log_" in self.__dict__:
            hint = "; extend(X_new) appends samples" if name == "X_pool" else ""
            raise AttributeError(f"{name} cannot be replaced once the loop runs{hint}")
        if name == "disagreement" and "log_" in self.__dict__ and isinstance(value, str) and value in DISAGREEMENTS:
            return self._decide_by(value)
        super().__setattr__(name, value)

    # ---------------------------------------------------------------- the loop

    def start(self) -> DualPromptLearner:
        """Check everything and run round 0, if that has not happened yet; `query` does it too.

        Returns
        -------
        self : DualPromptLearner

        Raises
        ------
        FileNotFoundError
            If files of the pool do not exist; names the rows.
        RuntimeError
            If another process works with the state file; says which one.
        TypeError, ValueError
            If an argument does not fit.
        """
        if hasattr(self, "log_"):
            return self
        with looking_once():
            self._check()
            target = self._target()
            if target is not None and os.path.exists(target):
                raise ValueError(
                    f"path={str(self.path)!r} exists; DualPromptLearner.resume(path) goes on from it, or "
                    "delete it to start anew"
                )
            gone = missing_rows(self._pool, np.arange(len(self._pool)))
            if len(gone):
                raise FileNotFoundError(f"X_pool: files do not exist, {named_rows(gone, self._pool)}")
            self._claim()
            with unchanged_on_error(self, self.estimator):
                self._names, self._query, self._predictions = kept(self._class_names), None, None
                self._due, self._changes = None, []
                self._trained_rows = np.empty(0, dtype=np.intp)
                self._know_files()
                self.log_ = self._with_record([])
            self._save()
        return self

    def _check(self) -> None:
        check_settings(self)
        self._given = as_array(self.X_pool, "X_pool")
        self._pool = absolute(self._given, self._folder)
        self._truth = None if self.y_pool is None else check_labels(self.y_pool, "y_pool")
        if self._truth is not None:
            if len(self._truth) != len(self._pool):
                raise ValueError(f"y_pool has {len(self._truth)} labels, X_pool {len(self._pool)} rows")
            check_known_labels(self._truth, self._class_names, "y_pool")
        if self.path is not None:
            check_target(self._target() or "")

    def _begin(self, files: bool = True, reads: bool = True) -> None:
        """What every change and question rests on: a start, class names and files as they were; gone ones if read."""
        self.start()
        check_settings(self)
        if self._follow_names():
            self._due = "later"
        if files:
            self._check_files(reads)

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
            Samples to choose; fewer, with a warning, if less is left of the budget.
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
            If ``n_instances`` does not fit what is left of the pool, the budget is spent, files hold other images
            than they did, or as `start`.
        FileNotFoundError
            If files of the pool are gone; names the rows, which `drop` leaves out.
        """
        if X_pool is not None:
            if query_returns_metrics():
                kwargs["return_metrics"] = return_metrics
            return super().query(X_pool, n_instances, *args, **kwargs)
        check_settings(self)
        check_can_ask(self.estimator, self.query_strategy, score=kwargs.get("score"))
        with looking_once():
            self._begin()
            self.train()
            rows, scores = self._choose(n_instances, args, kwargs)
            self._save()
        instances = self._given[rows]
        return (rows, instances, scores) if return_metrics else (rows, instances)

    def _choose(self, n_instances: int, args: Any, kwargs: Any) -> tuple[np.ndarray, Any]:
        left = self.unlabeled_
        n_instances = self._within_budget(check_n_instances(n_instances, len(left)))
        began = time.perf_counter()
        rng = np.random.default_rng([self.random_state, len(self.log_)])
        scores = None
        if self.first_query == "random" and not len(self._labeled()[0]):
            chosen = rng.permutation(len(left))[:n_instances]
        else:
            seed = int(rng.integers(2**31))
            name = name_of(getattr(self.query_strategy, "func", self.query_strategy)) or ""  # of a partial's function
            pool = part_of(self._pool, left, lazily=name.startswith("modal_clip_dual."))
            with rows_called("X_pool", self._pool):
                chosen, scores = call_strategy(self.query_strategy, self, pool, n_instances, seed, *args, **kwargs)
        rows, score = left[chosen], kwargs.get("score")
        with rows_called("X_pool", self._pool):
            query = {"rows": rows.tolist(), "scores": self._believed(rows)}
        query |= {"score": score if isinstance(score, str) else None, "query_seconds": time.perf_counter() - began}
        self._query = query
        return rows, scores

    def _within_budget(self, n_instances: int) -> int:
        """As many as are left of the budget."""
        left = n_instances if self.budget is None else self.budget - len(self._labeled()[0])
        if left <= 0:
            raise ValueError(f"the budget of {self.budget} labels is spent; a larger learner.budget goes on")
        if left < n_instances:
            warnings.warn(
                f"n_instances={n_instances}, but {left} labels are left of the budget of {self.budget}: {left} "
                "samples are asked for", UserWarning, stacklevel=4,
            )  # fmt: skip
        return min(left, n_instances)

    def teach(
        self,
        X: Any = None,
        y: Any = None,
        bootstrap: bool = False,
        only_new: bool = False,
        *,
        rows: Any = None,
        annotator: str | None = None,
        train: bool = True,
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
            Positions in the pool, in place of X: any samples without a label, or with an ``annotator`` those that
            only others labeled.
        annotator : str, default=None
            Who gives the labels.
        train : bool, default=True
            Whether to train at once; False only saves the labels, for the next training to take in.
        **fit_kwargs
            Of modAL's ``teach``; refused, since the learner mines pseudo-labels itself.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; nothing is changed then.
        """
        if bootstrap or only_new or fit_kwargs:
            given = {"bootstrap": bootstrap, "only_new": only_new, **fit_kwargs}
            raise ValueError(
                f"{given}: every round trains on all labels and on pseudo-labels that the learner "
                "mines; modAL's ActiveLearner takes these arguments"
            )
        with looking_once():
            self._begin(reads=train)
            y, annotator = check_labels(y), check_annotator(annotator)
            rows = rows_of(X, rows, self._pool, self._asked(), self._folder)
            if len(y) != len(rows):
                raise ValueError(f"y has {len(y)} labels for {len(rows)} samples")
            refuse_repeated(rows, annotator, self._annotations, self._trained_rows, self._gone)
            if self._due == "now" and set(self._waiting()) != set(rows):
                self.train()  # labels of a training that was interrupted are not lost
            self._answer("teach", rows, y, annotator, train)
        n_labels = len(self._labeled()[0])
        if self.budget is not None and n_labels > self.budget:
            warnings.warn(f"{n_labels} labels are more than the budget of {self.budget}", UserWarning, stacklevel=2)

    def _asked(self) -> list[int]:
        """The rows of the last query that were not left out since."""
        left_out = {*self._annotations.skipped, *self._annotations.dropped}
        return [row for row in (self._query or {"rows": []})["rows"] if row not in left_out]

    def stop_reason(self) -> str | None:
        """Say why labeling may stop: the budget, the pool's end or a criterion.

        Returns
        -------
        reason : str or None
            None to go on.

        Raises
        ------
        TypeError
            If ``stopping`` is no list of criteria, or one gives neither a reason nor None.
        """
        if not len(self.unlabeled_):
            left_out = self._annotations.skipped or self._annotations.dropped or len(self._gone)
            return "the whole pool is labeled" + (" or left out" if left_out else "")
        if self.budget is not None and len(getattr(self, "rows_", ())) >= self.budget:
            return f"the budget of {self.budget} labels is spent"
        return reason_of(self.stopping, getattr(self, "log_", []))

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
        oracle = oracle_of(oracle, n_samples(self.X_pool, "X_pool", EXPECTED))
        if protocol.first_query is not None:
            self.first_query = protocol.first_query
        check_settings(self)
        check_can_ask(self.estimator, self.query_strategy)
        self.train()
        classes: Any = getattr(self.estimator, "classes_", self._class_names)
        if classes is None and protocol.per_class is not None:
            raise ValueError(
                f"class_names is None, so {protocol} does not know how many labels a round has; expected "
                "class_names, or a protocol with fraction"
            )
        n_instances = protocol.n_instances(len(self._pool), 0 if classes is None else len(classes))
        while self._n_rounds() < protocol.n_rounds and self.stop_reason() is None:
            n = min(n_instances, len(self.unlabeled_))
            if self.budget is not None:
                n = min(n, self.budget - len(self._labeled()[0]))
            rows, instances = self.query(n_instances=n)
            self.teach(y=oracle(rows, instances), rows=rows)
            if on_round is not None:
                on_round(self.log_[-1])
        return self

    def _n_rounds(self) -> int:
        """Rounds in which labels came; corrections alone are no round of a protocol."""
        return sum(record["rows"] is not None for record in self.log_)
