"""Strategies by name."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from modAL.uncertainty import entropy_sampling

from modal_clip_dual import coreset_sampling, get_strategy, random_sampling, register_strategy, strategies
from modal_clip_dual.strategies import available_strategies, pcb_sampling, registry


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    """As after an import; examples of docstrings register names too."""
    monkeypatch.setattr(registry, "_REGISTERED", {})


# What these need, the plain learner has not; their own tests have.
OF_JUDGES = {"code-distance": "code_margin", "dirichlet-uncertainty": "predict_alpha"}


@pytest.mark.parametrize("name", available_strategies())
def test_every_name_chooses(learner, embeddings, name):
    if name in OF_JUDGES:
        with pytest.raises(TypeError, match=rf"method {OF_JUDGES[name]}\(X\)"):
            get_strategy(name)(learner, embeddings[:100], 7)
        return
    rows = get_strategy(name)(learner, embeddings[:100], 7)
    rows = rows[0] if isinstance(rows, tuple) else rows
    assert len(set(np.asarray(rows).tolist())) == 7


def test_every_strategy_of_the_package_has_a_name():
    functions = [get_strategy(name) for name in available_strategies()]
    functions = {getattr(f, "func", f) for f in functions}
    ours = {n for n in strategies.__all__ if n.endswith("_sampling")}
    assert len(ours) >= 14
    assert {getattr(strategies, name) for name in ours} <= functions


def test_names_follow_from_files():
    names = available_strategies()
    assert names == sorted(set(names))
    assert get_strategy("alfa-mix") is strategies.alfa_mix_sampling
    assert get_strategy("random") is random_sampling
    # Known by what they are called with, or two in a file; what is no strategy is not listed.
    assert not {"gcnal", "pcb", "class-balanced", "registry", "view", "mining"} & set(names)
    functions = {getattr(get_strategy(name), "func", get_strategy(name)) for name in names}
    folder = Path(strategies.__file__).parent
    for path in folder.glob("*.py"):
        for name in re.findall(r"^def (\w+_sampling)\(", path.read_text(encoding="utf-8"), re.M):
            assert getattr(strategies, name) in functions, f"{name} is in no stub, or has no name"


def test_names_functions_and_arguments():
    assert get_strategy("coreset") is coreset_sampling
    assert get_strategy("entropy") is entropy_sampling
    assert get_strategy(entropy_sampling) is entropy_sampling
    assert get_strategy("modAL.uncertainty:entropy_sampling") is entropy_sampling
    strategy = get_strategy("pcb-coreset", fraction=0.5)
    assert strategy.func is pcb_sampling
    assert strategy.keywords == {"base": "coreset", "fraction": 0.5}
    assert get_strategy(partial(pcb_sampling, base="badge"), fraction=0.2).keywords["fraction"] == 0.2


@pytest.mark.parametrize(
    ("strategy", "error", "message"),
    [
        ("best", ValueError, "strategy='best'; expected one of .*coreset"),
        ("no.such.module:f", ValueError, "cannot be imported: No module named 'no"),
        ("numpy:no_such", ValueError, "cannot be imported: .*no_such"),
        ("numpy:pi", TypeError, "is a float; expected a function"),
        (":f", ValueError, "cannot be imported"),
        ("os:getcwd", TypeError, r"strategy='os:getcwd' takes the arguments \(\) .*expected a query strategy, \("),
        ("glob:escape", TypeError, r"takes the arguments \(pathname\) "),
        (7, TypeError, "strategy=7; expected a query strategy"),
    ],
)
def test_wrong_names(strategy, error, message):
    with pytest.raises(error, match=message):
        get_strategy(strategy)


def test_wrong_argument():
    with pytest.raises(ValueError, match="'delta' is not a parameter of coreset; it has"):
        get_strategy("coreset", delta=3)


@pytest.mark.parametrize("name", available_strategies())
def test_every_name_takes_a_random_state(name):
    """The loop of the guide, over all names."""
    strategy, plain = get_strategy(name, random_state=3), get_strategy(name)
    if getattr(plain, "__module__", "").startswith("modAL."):
        assert strategy is plain  # nothing is drawn
    else:
        assert strategy.keywords["random_state"] == 3


def test_options_of_modals_strategies(learner, embeddings):
    rows = [get_strategy("margin", random_state=seed)(learner, embeddings[:50], 5) for seed in (0, 1)]
    rows = [answer[0] if isinstance(answer, tuple) else answer for answer in rows]
    np.testing.assert_array_equal(*rows)
    for strategy in ("entropy", "margin", "least-confidence", entropy_sampling, partial(entropy_sampling),
                     "modAL.disagreement:vote_entropy_sampling"):  # fmt: skip
        with pytest.raises(ValueError, match=r"'delta' is not a parameter of .*; it has \['c.*e_break'\]$"):
            get_strategy(strategy, random_state=0, delta=3)
        assert get_strategy(strategy, random_tie_break=True).keywords["random_tie_break"] is True
        with pytest.raises(ValueError, match="random_state=0 and random_tie_break=True: .* global generator"):
            get_strategy(strategy, random_state=0, random_tie_break=True)
    with pytest.raises(ValueError, match="'random_state' is not a parameter of modAL.expected_error:.*; it has"):
        get_strategy("modAL.expected_error:expected_error_reduction", random_state=0)  # it draws
    ties = partial(entropy_sampling, random_tie_break=True)
    with pytest.raises(ValueError, match="random_state=0 and random_tie_break=True: "):
        get_strategy(ties, random_state=0)


def test_own_strategy(learner, embeddings):
    def mine(classifier, X_pool, n_instances=1, **kwargs):
        return np.arange(n_instances)

    register_strategy("mine", mine)
    assert available_strategies()[-1] == "mine"
    assert get_strategy("mine") is mine
    assert get_strategy("mine", whatever=3).keywords == {"whatever": 3}  # it takes any
    rows = pcb_sampling(learner, embeddings[:50], 3, base="mine")
    rows = rows[0] if isinstance(rows, tuple) else rows
    assert set(rows.tolist()) <= set(range(5))
    with pytest.raises(ValueError, match="name='mine' is taken"):
        register_strategy("mine", mine)
    register_strategy("mine", entropy_sampling, replace=True)
    assert get_strategy("mine") is entropy_sampling
    wrong = ("", mine, ValueError), ("a:b", mine, ValueError), (3, mine, TypeError), ("x", 1, TypeError)
    for name, strategy, error in wrong:
        with pytest.raises(error, match="expected"):
            register_strategy(name, strategy)


def test_what_a_classifier_can_do():
    """Strategies are left out whose method neither the classifier nor what is inside of it has, fitted or not."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from modal_clip_dual import ClassCodeClassifier, DualLinearClassifier, TipAdapterClassifier

    every, asking = set(available_strategies()), {"auto", "correctness", "negative-prompt"}
    models = {"code-distance", "dirichlet-uncertainty"}
    for plain in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        assert set(available_strategies(plain)) == every - asking - models
    assert set(available_strategies(DualLinearClassifier())) == every - models
    votes = make_pipeline(StandardScaler(), TipAdapterClassifier())  # no linear head
    assert set(available_strategies(votes)) == every - models - {"alfa-mix"}
    judged = set(available_strategies(ClassCodeClassifier(LogisticRegression())))
    assert {"code-distance", "correctness"} <= judged and "dirichlet-uncertainty" not in judged
