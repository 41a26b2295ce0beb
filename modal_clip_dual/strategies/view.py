"""The classifier as query strategies see it, resolved once per query together with the samples.

As in modAL, a classifier may be a learner, a Committee of learners, a Pipeline, a fitted
search, or an estimator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import _num_samples, check_is_fitted

from ..scores import SCORES, clean
from ..utils.arrays import as_array
from ._answer import check_answer
from ._draws import Reduce, reduce_draws, sources_of
from ._equal import alike, first_equal
from ._inside import OWN, Inside, Samples
from ._ranking import Ranking, log_odds, of_answer, rank_by_blocks

if TYPE_CHECKING:
    import torch

class LinearHead(NamedTuple):
    """The embeddings and coefficients of a classifier that is linear in its embeddings."""

    embeddings: np.ndarray | torch.Tensor  # (n, D)
    weights: np.ndarray  # (C, D)
    biases: np.ndarray  # (C,)


class View:
    """A classifier with samples, whose predictions and embeddings are computed at most once.

    Strategies get predictions, embeddings and labels from it.  Pipelines transform the samples once
    per view, and the answers of a Committee's members are joined here and nowhere else.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline, search or estimator
    X : array-like of n samples
    name : str, default="X_pool"
        Name of X in error messages.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from modal_clip_dual.strategies.view import View
    >>> X, y = load_iris(return_X_y=True)
    >>> view = View(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), X)
    >>> view.proba.shape, view.embeddings.shape
    ((150, 3), (150, 4))
    """

    def __init__(self, classifier: Any, X: Any, name: str = "X_pool"):
        self.classifier = classifier
        self.X = X
        self.name = name
        learners = getattr(classifier, "learner_list", None)
        self.is_committee = learners is not None
        samples = Samples(lambda: X)
        self._top = Inside(classifier, samples)
        self._members = [Inside(learner, samples) for learner in learners] if learners else [self._top]
        self._answers: dict[str, np.ndarray] = {}
        self._parts: dict[str, list[np.ndarray]] = {}

    @cached_property
    def first(self) -> np.ndarray | None:
        """The row (n,) of the first sample that equals each one; None if all differ."""
        return first_equal(self.X)

    def alike(self, values: Any) -> Any:
        """Return the values (n, ...), an array or a tensor, with those of the first for all equal samples."""
        return alike(values, self.first)

    @cached_property
    def n_samples(self) -> int:
        """The number of samples."""
        n: int = _num_samples(self.X)
        return n

    def take(self, rows: np.ndarray) -> View:
        """Return the same classifier's view of some rows of X."""
        from modAL.utils.data import retrieve_rows

        return View(self.classifier, retrieve_rows(self.X, rows), self.name)

    def find(self, method: str, required: bool = True, through_templates: bool = True) -> Inside:
        """Return the object inside that has the method, with X as that object sees it.

        If no object has it, the innermost one is returned, or an error is raised where the method is
        ``required``.  A Committee counts as one object here.

        Raises
        ------
        TypeError
            If the method is required and no object has it; the message names the method and the classifier.
        """
        found = self._top.find(method, through_templates)
        if required:
            self.check_has(found, method)
        return found

    # ---------------------------------------------------------------- predictions

    def ask(self, method: str) -> np.ndarray:
        """Return a method's answer for X; answers of a Committee's members are averaged.

        Equal samples get equal answers.

        Raises
        ------
        TypeError
            If no object inside has the method; the message names it.
        ValueError
            If the members of a Committee do not know the same classes.
        """
        if method not in self._answers:
            answers = self._ask_each(method)
            joined = np.mean(answers, axis=0) if self.is_committee else answers[0]
            self._answers[method] = self.alike(joined)
        return self._answers[method]

    def _ask_each(self, method: str) -> list[np.ndarray]:
        """The answer of every member; there is one unless the classifier is a Committee."""
        if method not in self._parts:
            found = [member.find(method) for member in self._members]
            for inside in found:
                self.check_has(inside, method)
            answers = [inside.ask(method) for inside in found]
            _check_same_classes([getattr(inside.object, "classes_", None) for inside in found])
            self._parts[method] = answers
        return self._parts[method]

    @cached_property
    def classes(self) -> np.ndarray:
        """Labels of the columns of `proba`, sorted.

        Raises
        ------
        TypeError
            If the classifier does not know its classes yet.
        """
        found = self._members[0].find("classes_")
        self.check_has(found, "classes_")
        classes: np.ndarray = found.object.classes_
        return classes

    @cached_property
    def proba(self) -> np.ndarray:
        """Class probabilities (n, C); those of zero-shot CLIP if the classifier was never fitted.

        Raises
        ------
        TypeError
            If the classifier has no ``predict_proba``.
        NotFittedError
            If the classifier was never fitted and has no ``zero_shot_proba``.
        """
        try:
            return self.ask("predict_proba")
        except NotFittedError as error:
            return self._zero_shot(error)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Column (n,) of the likeliest class."""
        columns: np.ndarray = self.proba.argmax(axis=1)
        return columns

    def _zero_shot(self, error: NotFittedError) -> np.ndarray:
        if not all(member.find("zero_shot_proba").has("zero_shot_proba") for member in self._members):
            raise NotFittedError(
                f"this {type(self.classifier).__name__} was never fitted, so it has no class "
                "probabilities; fit it on a first set of labels, or choose these by random_sampling"
            ) from error
        return self.ask("zero_shot_proba")

    def rank(self, score: str, zero_shot: bool = True) -> Ranking:
        """Predict the samples, with a confidence for each prediction.

        A classifier that was never fitted has no clean logits yet.  Unless ``zero_shot`` is False, its
        zero-shot probabilities replace them: the log odds of a class against the others, plus
        log(C - 1), stand for its clean logit.

        A score without logits needs no probabilities either if the estimator has ``predict``.

        Parameters
        ----------
        score : str
            A name of `modal_clip_dual.scores.SCORES`.
        zero_shot : bool, default=True
            Whether zero-shot probabilities may replace the logits of an unfitted classifier.

        Raises
        ------
        TypeError
            If a required method is missing.
        NotFittedError
            If the classifier was never fitted, and has no zero-shot probabilities or must not use
            them.
        """
        entry = SCORES[score]
        found = [member.find(entry.method) for member in self._members]
        for inside in found:
            self.check_has(inside, entry.method)
        try:
            if not self.is_committee and found[0] is self._predictor():
                return rank_by_blocks(found[0], entry, self.X)
            proba = self.ask("predict_proba")
        except NotFittedError as error:
            if not zero_shot:
                raise
            proba = self._zero_shot(error)
            predicted = proba.argmax(axis=1)
            sure = (entry.of_logits or clean)(log_odds(proba), predicted)
            return Ranking(predicted, *sure, proba.shape[1])
        try:
            answer = self.ask(entry.method)
        except NotFittedError as error:
            raise TypeError(
                f"{type(self.classifier).__name__} is fitted, but the estimator that it shows is not (it "
                "fits copies); this query strategy needs the estimator itself, a modAL learner, a "
                "Committee, a Pipeline or a refitted search"
            ) from error
        if entry.of_logits is None and self.is_committee:
            answer = self._proba_of_being_right()
        return Ranking(self.predicted, *of_answer(entry, answer, self.predicted), proba.shape[1])

    def of_draws(self, reduce: Reduce) -> np.ndarray:
        """What ``reduce`` makes of draws of class probabilities, a value (n,) per sample.

        It gets draws (S, rows, C), float64, and weights (S,), by which the members of a Committee count the same.
        What has no ``sample_proba`` is one draw, its `proba`, the zero-shot one too.  Raises as `proba`.
        """
        sources = sources_of(self._members, self.check_has)
        try:
            values = reduce_draws(sources, reduce)
        except NotFittedError as error:
            values = reduce(self._zero_shot(error)[None].astype(np.float64), np.ones(1))
        _check_same_classes([getattr(source.object, "classes_", None) for source in sources])
        of_all: np.ndarray = self.alike(values)
        return of_all

    def _predictor(self) -> Inside:
        """The object that predicts labels: with ``predict_proba`` if possible, else with ``predict``."""
        by_proba = self._members[0].find("predict_proba")
        return by_proba if by_proba.has("predict_proba") else self._members[0].find("predict")

    def _proba_of_being_right(self) -> np.ndarray:
        """Probability (n,) that the members' joint prediction is right, a mean over the members.

        A member's own P(correct) is about its own label.  If that is another one, its doubt is shared
        among the other labels in proportion to its class probabilities.
        """
        rows, tiny = np.arange(len(self.predicted)), np.finfo(np.float64).tiny
        parts = []
        for proba, right in zip(self._ask_each("predict_proba"), self._ask_each("predict_correct_proba")):
            own, right = proba.argmax(axis=1), np.asarray(right, dtype=np.float64)
            proba = proba.astype(np.float64)
            wanted = proba[rows, self.predicted]
            proba[rows, own] = 0
            share = wanted / np.maximum(proba.sum(axis=1), tiny)
            parts.append(np.where(own == self.predicted, right, (1 - right) * share))
        mean: np.ndarray = self.alike(np.mean(parts, axis=0))
        return mean

    # ---------------------------------------------------------------- embeddings

    @cached_property
    def embeddings(self) -> np.ndarray | torch.Tensor:
        """Embeddings (n, D) of X, an array or a tensor, between which a strategy measures distances.

        They come from ``transform`` of the estimator inside; without one, X itself is taken as it
        reaches the estimator, after the steps of a Pipeline.  Where the members of a Committee embed
        differently, squared distances are the means of theirs.  Equal samples have equal embeddings.

        Raises
        ------
        TypeError
            If there is no ``transform`` and X is not a table of numbers.
        """
        return self._joined[0]

    @cached_property
    def _joined(self) -> tuple[np.ndarray | torch.Tensor, bool]:
        """Return the embeddings, and whether all members of a Committee share them."""
        tables = [self._embed(member) for member in self._members]
        if not self.is_committee:
            return tables[0], True
        arrays = [as_array(table) for table in tables]
        if all(np.array_equal(arrays[0], other) for other in arrays[1:]):
            return arrays[0], True
        return np.hstack(arrays) / np.sqrt(len(arrays)), False

    def proba_at(self, embeddings: np.ndarray) -> np.ndarray:
        """Return class probabilities (m, C) for other embeddings, by the estimators behind all transforms.

        Raises
        ------
        TypeError
            If ``predict_proba`` is missing, or the members of a Committee embed differently.
        """
        behind = [member.find("predict_proba") for member in self._members]
        for inside in behind:
            self.check_has(inside, "predict_proba")
        if not self._joined[1]:
            raise TypeError(
                "this query strategy needs one embedding of each sample, but the members of the Committee "
                "embed differently; pass one of its learners"
            )
        mean: np.ndarray = np.mean([inside.object.predict_proba(embeddings) for inside in behind], axis=0)
        return mean

    def _embed(self, member: Inside) -> np.ndarray | torch.Tensor:
        inside = member.find("transform")
        if inside.has("transform"):
            table: Any = inside.ask("transform")
        else:
            table = _as_table(inside, self.name)
            if inside.X is self.X:
                return table  # type: ignore[no-any-return]  # an array or tensor, by _as_table
        same: np.ndarray | torch.Tensor = self.alike(table if hasattr(table, "detach") else np.asarray(table))
        return same

    @cached_property
    def labels(self) -> list[np.ndarray]:
        """Labels of the training data of each learner that was taught."""
        held = [getattr(member.object, "y_training", None) for member in self._members]
        return [y for y in held if y is not None]

    def labeled(self, required: bool = False) -> tuple[np.ndarray | None, Any]:
        """Return embeddings (m, D) and labels (m,) of the training data of a modAL learner.

        For a Committee they are all members' data, each sample once.  Both are None before the
        first labels, and for a classifier that is not a learner.

        Raises
        ------
        ValueError
            If labels are ``required`` and the classifier is not a learner.
        """
        learners = [member.object for member in self._members]
        if required and not hasattr(learners[0], "X_training"):
            raise ValueError(
                "this query strategy compares the pool with labeled samples, which "
                f"{self._describe()} does not hold: it has no X_training; expected a modAL learner"
            )
        parts = [
            (learner.X_training, learner.y_training)
            for learner in learners
            if getattr(learner, "X_training", None) is not None and len(learner.y_training)
        ]
        if not parts:
            return None, None
        views = [View(self.classifier, X, "X_training") for X, _ in parts]
        embeddings = np.concatenate([as_array(view.embeddings) for view in views])
        labels = np.concatenate([y for _, y in parts])
        if len(parts) > 1:
            _, first = np.unique(embeddings, axis=0, return_index=True)
            embeddings, labels = embeddings[np.sort(first)], labels[np.sort(first)]
        return embeddings, labels

    @cached_property
    def linear_head(self) -> LinearHead:
        """Return the embeddings of X, with the weights and biases of their linear classifier.

        Raises
        ------
        TypeError
            If the classifier is not linear in its embeddings: it has no ``coef_`` of their width.
        NotFittedError
            If the classifier was never fitted.
        """
        if self.is_committee:
            raise TypeError(
                "this query strategy needs one linear classifier, but a Committee has many; pass one "
                "of its learners"
            )
        inside = self.find("coef_", required=False, through_templates=False)
        weights, biases = self._coefficients(inside.object)
        embeddings = self.embeddings
        if embeddings.shape[1] != weights.shape[1]:  # transform has another output space, as in scikit-learn's LDA
            embeddings = _as_table(inside, self.name)
        if embeddings.shape[1] != weights.shape[1]:
            raise TypeError(
                f"coef_ of {type(inside.object).__name__} has {weights.shape[1]} columns, its embeddings "
                f"{embeddings.shape[1]}; this query strategy needs a classifier that is linear in them"
            )
        return LinearHead(embeddings, weights, biases)

    def _coefficients(self, inner: Any) -> tuple[np.ndarray, np.ndarray]:
        """Weights (C, D) and biases (C,) of a linear classifier."""
        if not hasattr(inner, "coef_"):
            if hasattr(inner, "fit"):
                check_is_fitted(inner)
            raise TypeError(
                "this query strategy needs a classifier that is linear in its embeddings, with the "
                f"attribute coef_, such as DualPromptClassifier or LogisticRegression; got "
                f"{self._describe(inner)}"
            )
        weights = np.atleast_2d(as_array(inner.coef_)).astype(np.float32)
        biases = np.broadcast_to(np.float32(getattr(inner, "intercept_", 0.0)), len(weights))
        if len(weights) == 1:  # scikit-learn's binary classifiers give the weights of the second class alone
            weights = np.concatenate([np.zeros_like(weights), weights])
            biases = np.concatenate([np.zeros_like(biases), biases])
        return weights, biases

    # ---------------------------------------------------------------- errors

    def check_has(self, inside: Inside, method: str) -> None:
        """Refuse a classifier whose innermost object lacks the method; the message names both."""
        if not inside.has(method):
            raise TypeError(
                f"this query strategy needs a classifier with the method {method}(X), such as "
                f"{OWN.get(method, 'DualPromptClassifier')}; got {self._describe(inside.object)}"
            )

    def _describe(self, inner: Any = None) -> str:
        around = "" if inner is None or inner is self.classifier else f" around {type(inner).__name__}"
        return f"{type(self.classifier).__name__}{around}"


def _check_same_classes(classes: list[Any]) -> None:
    for other in classes[1:]:
        if not np.array_equal(classes[0], other):
            raise ValueError(
                f"the members of the Committee know different classes: {classes[0]} and {other}; "
                "give all of them the same class_names, and fit all or none"
            )


def _as_table(inside: Inside, name: str) -> np.ndarray | torch.Tensor:
    X = inside.X
    table: np.ndarray | torch.Tensor = X if hasattr(X, "detach") else np.asarray(X)
    numbers = hasattr(table, "detach") or table.dtype.kind in "fiu"
    if table.ndim != 2 or not numbers:
        raise TypeError(
            f"this query strategy measures distances: it needs a classifier with the method "
            f"transform(X), such as DualPromptClassifier, or embeddings as {name}, numbers of shape "
            f"(n, D); got {type(inside.object).__name__} and {name} of shape {tuple(table.shape)} and type "
            f"{table.dtype}"
        )
    return table


class _Answering:
    """A stand-in for the classifier that returns the probabilities which a view already has."""

    def __init__(self, view: View):
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view.classifier, name)

    def predict_proba(self, X: Any, **kwargs: Any) -> Any:
        if X is self._view.X and not kwargs:
            return self._view.ask("predict_proba")
        return self._view.classifier.predict_proba(X, **kwargs)


def call_strategy(
    strategy: Callable[..., Any],
    classifier: Any,
    X_pool: Any,
    n_instances: int,
    random_state: Any,
    *args: Any,
    **kwargs: Any,
) -> tuple[np.ndarray, Any]:
    """Call any strategy; return rows of the pool, checked by `check_answer`, and scores, None where modAL has none.

    Strategies with a ``random_state`` that is not set get this one.  ``classifier`` may be a
    `View` of ``X_pool``: strategies of this package and of modAL then reuse its results.
    """
    parameter = signature(strategy).parameters.get("random_state")
    if parameter is not None and parameter.default is None:
        kwargs.setdefault("random_state", random_state)
    if isinstance(classifier, View):
        classifier = _for_strategy(classifier, strategy)
    answer = strategy(classifier, X_pool, n_instances, *args, **kwargs)
    return check_answer(answer, strategy, n_instances, _num_samples(X_pool))


def _for_strategy(view: View, strategy: Callable[..., Any]) -> Any:
    """Return the view for strategies that take one, a stand-in for modAL's, and else the classifier."""
    while hasattr(strategy, "func"):  # of partials
        strategy = strategy.func
    if getattr(strategy, "takes_views", False):
        return view
    return _Answering(view) if str(getattr(strategy, "__module__", "")).startswith("modAL.") else view.classifier
