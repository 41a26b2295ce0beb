"""The plan of a comparison: checked and resolved arguments, and the list of runs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import product
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Bunch, get_tags

from ..active import PROTOCOLS, Protocol
from ..active.abilities import (
    PSEUDO_LABELS,
    check_n_per_class,
    check_pseudo_labels,
    kind_of_pseudo_labels,
    number_of_pseudo_labels,
    trains_without_labels,
)
from ..active.protocols import FIRST_QUERIES
from ..base import CLIPClassifier
from ..clip.inputs import check_cache, digest_cache
from ..data import load_benchmark
from ..data.images import as_array, kind_of
from ..strategies.asking import check_can_ask
from ..strategies.registry import get_strategy
from ..utils.labels import check_known, check_labels, check_one_kind
from ..utils.validation import check_integer, check_number, check_option
from ._fingerprints import description_of, digest_of
from .run import check_from_zero, check_measurable

LOOPS = ("selection", "full")
# Increase this number when the same settings give different figures, so that stored runs are not mixed up.
FORMAT = 1
SETTINGS_BYTES = 6  # of the digest of settings in files of runs, which floats hold exactly
Strategies: TypeAlias = (
    "str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | Mapping[str, str | Callable[..., Any]]"
)


@dataclass(frozen=True)
class Run:
    """One run: an estimator in a kind of loop, a strategy and a seed."""

    names: dict[str, Any]  # columns data, estimator, loop, strategy, seed
    estimator: BaseEstimator
    strategy: Callable[..., Any]
    n_per_class: int | str | None
    first_query: Any  # as `run_active_learning` takes them
    key: str
    pseudo_labels: str = "own"
    settings: int | None = None  # digest of what the key is of, without the seed

    @property
    def file_name(self) -> str:
        """Name of the run's file, readable and different for different settings."""
        parts = (str(value) for value in self.names.values())
        slug = "-".join(re.sub(r"[^A-Za-z0-9]+", "_", part)[:24] for part in parts)
        return f"{slug}-{self.key}.csv"


@dataclass
class Plan:
    """All runs of a comparison, with the data that they share."""

    runs: list[Run]
    name: str
    X: np.ndarray | None  # None if the samples are passed separately; runs must not depend on it
    y: np.ndarray
    X_test: np.ndarray | None  # alike
    y_test: np.ndarray | None
    protocol: Protocol
    test_size: float
    n_classes: int
    from_zero: bool = False

    @property
    def n_records(self) -> int:
        """Rows of the table per run."""
        return self.n_rounds + self.from_zero

    @property
    def n_rounds(self) -> int:
        """Rounds per run, those that label."""
        return self.protocol.n_rounds

    @property
    def n_pool(self) -> int:
        """Number of samples in the pool."""
        return len(self.y) if self.y_test is not None else len(self.y) - self.n_test

    @property
    def n_test(self) -> int:
        """Number of test samples."""
        return len(self.y_test) if self.y_test is not None else round(self.test_size * len(self.y))

    @property
    def n_instances(self) -> int:
        """Number of labels per round."""
        return self.protocol.n_instances(self.n_pool, self.n_classes)

    def without_data(self) -> Plan:
        """Return the plan without samples, which are sent to worker processes separately."""
        return Plan(**vars(self) | {"X": None, "X_test": None, "runs": []})

    def split(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of pool and test set, the same for all runs of a seed."""
        if self.y_test is not None:
            return np.arange(len(self.y)), np.arange(len(self.y_test))
        order = np.random.default_rng(seed).permutation(len(self.y))
        return order[self.n_test :], order[: self.n_test]

    def embed(self, runs: Sequence[Run]) -> dict[str, list[Any]]:
        """Return (X, X_test) of each run; with a frozen image tower they are embeddings, made once per CLIP."""
        inputs: dict[str, list[Any]] = {}
        by_clip: dict[tuple[Any, ...] | None, list[Any]] = {}
        for run in runs:
            clf = run.estimator
            clip = None
            frozen = isinstance(clf, CLIPClassifier) and get_tags(clf).input_tags.two_d_array
            if frozen and self.X is not None and kind_of(self.X) != "embeddings":
                clip = (clf.model_name, str(clf.pretrained), clf.precision, clf.device)
            if clip not in by_clip:
                pair = [self.X, self.X_test]
                if clip is not None:
                    encoder = clone(clf)
                    pair = [None if part is None else encoder.transform(part) for part in pair]
                by_clip[clip] = pair
            inputs[run.key] = by_clip[clip]
        return inputs


def make_plan(
    samples: Bunch,
    estimators: Any,
    strategies: Strategies,
    protocol: str | Protocol = "paper",
    loop: str | Sequence[str] = "selection",
    n_per_class: int | str | None = "auto",
    seeds: int | Sequence[int] | np.ndarray = 3,
    first_query: str = "random",
    test_size: float = 1 / 3,
    from_zero: bool = False,
    pseudo_labels: str = "auto",
) -> Plan:
    """Check the arguments of `compare_strategies` and list the runs, without running any.

    ``samples`` are those of `find_samples`, and ``first_query`` is what `first_query_of` returns.
    """
    protocol = _resolve_protocol(protocol)
    check_option("first_query", first_query, FIRST_QUERIES)
    check_number("test_size", test_size, 0, 1)
    check_n_per_class(n_per_class, least=1)
    check_option("pseudo_labels", pseudo_labels, PSEUDO_LABELS)
    plan = Plan(
        [], samples.name, samples.X, samples.y, samples.X_test, samples.y_test, protocol, float(test_size),
        len(np.unique(samples.y) if samples.class_names is None else samples.class_names), bool(from_zero),
    )  # fmt: skip
    if plan.n_test < 1:
        raise ValueError(f"test_size={test_size} of {len(plan.y)} samples leaves none to measure on")
    if plan.n_instances * plan.n_rounds > plan.n_pool:
        raise ValueError(
            f"protocol={protocol}: {plan.n_rounds} rounds of {plan.n_instances} labels are more than "
            f"the pool of {plan.n_pool} samples"
        )
    loops = _resolve_loops(loop)
    named, asked = _resolve_estimators(estimators, samples, loops, plan.from_zero), _resolve_strategies(strategies)
    for estimator in named.values() if "full" in loops else ():
        check_pseudo_labels(estimator, pseudo_labels)
    for name, estimator in named.items():
        if _without_names(estimator) and trains_without_labels(estimator, "full" in loops):
            raise ValueError(
                f"estimators: {name!r} is trained before there is a label, but its class_names is None, and the data "
                "names no classes; expected class_names, a list of names or a mapping"
            )
    for (name, estimator), (strategy_name, strategy) in product(named.items(), asked.items()):
        check_can_ask(estimator, strategy, f"strategies: {strategy_name!r}", f"{name!r} of estimators")
    every = product(named.items(), loops, asked.items(), _resolve_seeds(seeds))
    digest = digest_of(samples, _cache_of(named.values(), samples))
    described = {name: description_of(estimator, cloned=True) for name, estimator in named.items()}
    described_strategies = {name: description_of(strategy) for name, strategy in asked.items()}
    for (name, estimator), kind, (strategy_name, strategy), seed in every:
        names = {
            "data": samples.name,
            "estimator": name if len(loops) == 1 else f"{name} ({kind})",
            "loop": kind,
            "strategy": strategy_name,
            "seed": seed,
        }
        source: str = "own"
        k: int | str | None = 0
        if kind == "full":
            source = kind_of_pseudo_labels(estimator, pseudo_labels)
            k = number_of_pseudo_labels(n_per_class, source)
            k = k if k is None or isinstance(k, str) else int(k)
        settings = [
            FORMAT, digest, _stored(names), described[name], described_strategies[strategy_name], k,
            first_query, _stored_protocol(protocol), None if plan.y_test is not None else test_size,
        ]  # fmt: skip
        # Runs that were stored before are found again.
        settings += ["from zero"] if plan.from_zero else []
        settings += [f"pseudo-labels: {source}"] if source != "own" else []
        key = _digest(settings, 8).hex()
        settings[2] = _stored({**names, "seed": None})
        of_all_seeds = int.from_bytes(_digest(settings, SETTINGS_BYTES), "big")
        plan.runs.append(Run(names, estimator, strategy, k, first_query, key, source, of_all_seeds))
    return plan


def _digest(settings: list[Any], size: int) -> bytes:
    stored = json.dumps(settings, sort_keys=True, default=np.generic.item)  # NumPy's numbers as Python's
    return blake2b(stored.encode(), digest_size=size).digest()


def _cache_of(estimators: Iterable[Any], samples: Bunch) -> Any:
    """Return the first estimator's cache on disk, which can keep checksums of image files; None without one."""
    if all(samples[name] is None or kind_of(samples[name]) != "paths" for name in ("X", "X_test")):
        return None
    for estimator in estimators:
        if isinstance(estimator, CLIPClassifier):
            check_cache(estimator.cache, estimator.n_jobs)
            if digest_cache(estimator.cache) is not None:
                return estimator.cache
    return None


def _stored(names: dict[str, Any]) -> dict[str, Any]:
    """Return names as version 0.1.0 wrote them, so that its stored runs are found again."""
    return {"learner" if key == "loop" else key: value for key, value in names.items()}


def _stored_protocol(protocol: Protocol) -> dict[str, Any]:
    """Return a protocol as version 0.1.0 wrote it; see `_stored`."""
    fields = asdict(protocol)
    fields["random_first_query"] = fields.pop("first_query") == "random"
    paper = PROTOCOLS["paper"]
    is_papers = protocol in (paper, replace(paper, first_query="strategy"))
    fields["reported_rounds"] = (1, 2, 5) if is_papers else ()
    return fields


def first_query_of(first_query: str | None, protocol: str | Protocol) -> str:
    """Return who chooses the first samples: what is asked for, else what a `Protocol` says, else ``"random"``.

    A protocol by its name leaves it to ``first_query``.

    Raises
    ------
    ValueError
        If ``first_query`` is unknown, or a `Protocol` says something else; the message names both.
    """
    if first_query is not None:
        check_option("first_query", first_query, FIRST_QUERIES)
    said = protocol.first_query if isinstance(protocol, Protocol) else None
    if first_query is not None and said is not None and said != first_query:
        raise ValueError(
            f"first_query={first_query!r}, but protocol={protocol} says first_query={said!r}; expected one of them, "
            "or both alike"
        )
    return first_query or said or "random"


def find_samples(
    X: Any = None,
    y: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    data: Any = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Bunch:
    """Check or load the samples that `compare_strategies` is given.

    Returns
    -------
    samples : Bunch
        ``name``, arrays ``X``, ``y``, ``X_test`` and ``y_test`` (None without a test set),
        ``class_names`` (None if unknown), and, for a data set, its ``template``.

    Raises
    ------
    TypeError, ValueError
        If samples and labels do not fit each other, labels are missing or of several kinds, those of the test set are
        of another kind, or one is not a label of ``class_names``.
    """
    if data is None:
        if X is None or y is None:
            raise ValueError("expected X and y, or data")
        if (X_test is None) != (y_test is None):
            raise ValueError("X_test and y_test: one was passed without the other; expected both or none")
        parts = {"name": "data", "X": X, "y": y, "X_test": X_test, "y_test": y_test, "class_names": None}
        bunch = Bunch(**parts)
    else:
        passed = {"X": X, "y": y, "X_test": X_test, "y_test": y_test}
        given = [name for name, value in passed.items() if value is not None]
        if given:
            raise ValueError(f"{', '.join(given)} and data were passed; expected X and y, or data")
        if isinstance(data, str):
            data = load_benchmark(data, root, download=download)
        missing = [name for name in ("name", "X_train", "y_train") if name not in data]
        if missing:
            raise ValueError(f"data has no {', '.join(missing)}; expected what load_benchmark returns")
        bunch = Bunch(**{"X_test": None, "y_test": None, "class_names": None} | data)
        bunch.X, bunch.y = data["X_train"], data["y_train"]
        if (bunch.X_test is None) != (bunch.y_test is None):
            raise ValueError("data has one of X_test and y_test; expected both or none")
    for name in ("X", "X_test"):
        if bunch[name] is not None:
            bunch[name] = as_array(bunch[name], name)
            y_name = name.replace("X", "y")
            bunch[y_name] = check_labels(bunch[y_name], y_name)
            if len(bunch[name]) != len(bunch[y_name]):
                raise ValueError(f"{name} has {len(bunch[name])} samples, {y_name} {len(bunch[y_name])} labels")
    if bunch.y_test is not None:
        check_one_kind(bunch.y, bunch.y_test, "y", "y_test")
    check_known(bunch.class_names, bunch.y, bunch.y_test, "y", "y_test")
    return bunch


def _resolve_protocol(protocol: str | Protocol) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}; expected one of {sorted(PROTOCOLS)} or a Protocol")
    return PROTOCOLS[protocol]


def _resolve_loops(loop: str | Sequence[str]) -> list[str]:
    loops = [loop] if isinstance(loop, str) else list(loop)
    if not loops or not set(loops) <= set(LOOPS) or len(set(loops)) < len(loops):
        raise ValueError(f"loop={loop!r}; expected some of {LOOPS}")
    return loops


def _resolve_estimators(
    estimators: Any, samples: Bunch, loops: Sequence[str], from_zero: bool
) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        named = {str(name): estimator for name, estimator in estimators.items()}
    else:
        several = estimators if isinstance(estimators, (list, tuple)) else [estimators]
        named = {type(estimator).__name__: estimator for estimator in several}
        if len(named) < len(several):
            raise ValueError("estimators: several of one class; expected a dict of {name: estimator}")
    if not named:
        raise ValueError("estimators is empty; expected at least one")
    for name, estimator in named.items():
        if not hasattr(estimator, "get_params") or not hasattr(estimator, "fit"):
            raise TypeError(f"estimators: {name!r} is a {type(estimator).__name__}; expected a classifier")
        if "full" in loops and not hasattr(estimator, "fit_unlabeled"):
            raise TypeError(
                f"estimators: {name!r} is a {type(estimator).__name__}; loop='full' expects a classifier with "
                "fit_unlabeled, such as DualPromptClassifier"
            )
        check_measurable(estimator, f"estimators: {name!r}")
        named[name] = _with_names(estimator, samples)
        check_known(getattr(named[name], "class_names", None), samples.y, samples.y_test, "y", "y_test")
        if from_zero:
            check_from_zero(named[name], f"estimators: {name!r}")
    return named


def _without_names(estimator: Any) -> list[str]:
    """Return where the classifiers on a CLIP are that have no names: prefixes of parameters, "" for itself."""
    inside = {f"{name}__": value for name, value in estimator.get_params(deep=True).items()} | {"": estimator}
    return [
        prefix for prefix, part in inside.items() if isinstance(part, CLIPClassifier) and part.class_names is None
    ]


def _with_names(estimator: Any, samples: Bunch) -> Any:
    """Return an estimator whose classifiers on a CLIP have names and template of the data where they have none."""
    found = _without_names(estimator)
    if not found:
        return estimator
    given = {"class_names": samples.class_names}
    given |= {"template": samples.template} if samples.get("template") else {}
    return clone(estimator).set_params(**{f"{at}{name}": value for at in found for name, value in given.items()})


def _resolve_strategies(strategies: Any) -> dict[str, Callable[..., Any]]:
    if isinstance(strategies, Mapping):
        if not strategies:
            raise ValueError("strategies is empty; expected at least one")
        return {str(name): get_strategy(value, name="strategies") for name, value in strategies.items()}
    if isinstance(strategies, str) or callable(strategies):
        strategies = [strategies]
    named = {
        entry if isinstance(entry, str) else _name_of(entry): get_strategy(entry, name="strategies")
        for entry in strategies
    }
    if len(named) < len(strategies) or not named:
        raise ValueError(
            f"strategies={list(strategies)!r}; expected at least one, of different names: a dict of "
            "{name: strategy} names them"
        )
    return named


def _name_of(strategy: Callable[..., Any]) -> str:
    function = getattr(strategy, "func", strategy)
    return getattr(function, "__name__", type(function).__name__)


def _resolve_seeds(seeds: int | Sequence[int] | np.ndarray) -> list[int]:
    if isinstance(seeds, Integral):
        check_integer("seeds", seeds, least=1)
        return list(range(int(seeds)))
    listed: list[Any] = list(seeds) if isinstance(seeds, Sequence) else []
    if hasattr(seeds, "__array__"):  # NumPy's and others, such as a Series
        listed = list(np.atleast_1d(np.asarray(seeds)))
    if not listed or not all(isinstance(seed, Integral) and int(seed) >= 0 for seed in listed):
        raise ValueError(f"seeds={seeds!r}; expected a number of repetitions or a list of seeds")
    if len(set(listed)) < len(listed):
        raise ValueError(f"seeds={seeds!r}; expected different ones")
    return [int(seed) for seed in listed]
