"""The identity of a stored run: what changes with the user's code and settings, and what stays in every process."""

import importlib.util
import json
import linecache
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse
from scipy.stats import loguniform, randint
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit, RandomizedSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import FunctionTransformer

import modal_clip_dual
from modal_clip_dual import random_sampling
from modal_clip_dual.evaluation import _fingerprints
from modal_clip_dual.evaluation._fingerprints import description_of, digest_of
from modal_clip_dual.evaluation.plan import find_samples

PACKAGES = str(Path(modal_clip_dual.__file__).parents[1])


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A function that makes a module of the user's from a source, in the place of the one before."""

    def loaded(source, name="mine"):
        file = tmp_path / f"{name}.py"
        file.write_text(source)
        linecache.clearcache()
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        exec(compile(source, str(file), "exec"), module.__dict__)
        return module

    return loaded


STRATEGY = """
import numpy as np
from functools import lru_cache, wraps

K = 1
WEIGHTS = np.arange(5.0)
TABLE = {"a": [1, 2]}
LINKED = []
LINKED.append(LINKED)

class Settings:
    size = 3
    def rule(self):
        return K + 0

SETTINGS = Settings()

def counted(function):
    @wraps(function)
    def wrapper(*args):
        return function(*args) or 0
    return wrapper

@lru_cache
def cached():
    return 7

@counted
def other():
    return mine if TABLE else 0

def helper(x):
    return [x + WEIGHTS, LINKED, SETTINGS.rule(), cached(), other()]

def mine(learner, X, n_instances=1):
    return [helper(x) for x in range(n_instances)]
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("K = 1", "K = 2"),
        ("arange(5.0)", "arange(5.0) + 1"),
        ("[1, 2]", "[1, 3]"),
        ("LINKED.append(LINKED)", "LINKED.append(K)"),
        ("size = 3", "size = 4"),
        ("K + 0", "K + 1"),
        ("or 0", "or 1"),
        ("return 7", "return 8"),
        ("mine if TABLE else 0", "mine if TABLE else 1"),
        ("[x + WEIGHTS", "[x - WEIGHTS"),
        ("SETTINGS = Settings()", "SETTINGS = Settings(); SETTINGS.size = 9"),
    ],
)
def test_what_a_strategy_reads_and_calls_is_part_of_it(load, before, after):
    assert STRATEGY.count(before) == 1
    first, same, other = (description_of(load(source).mine) for source in
                          (STRATEGY, STRATEGY, STRATEGY.replace(before, after)))  # fmt: skip
    assert first == same != other


def test_what_a_strategy_does_not_read_is_no_part_of_it(load):
    first, other = (description_of(load(STRATEGY + more).mine) for more in ("", "\nUNUSED = 3\ndef unused(): pass\n"))
    assert first == other


def test_variables_of_own_modules(load):
    main = "import settings\ndef mine(learner, X, n_instances):\n    return settings.choose(n_instances)\n"
    texts = []
    for number in (1, 1, 2):
        load(f"NUMBER = {number}\ndef choose(n):\n    return NUMBER\n", "settings")
        texts.append(description_of(load(main).mine))
    assert texts[0] == texts[1] != texts[2]


ESTIMATOR = """
from sklearn.naive_bayes import GaussianNB

class Base(GaussianNB):
    def fit(self, X, y):
        return super().fit(X, y)

class Mine(Base):
    depth = 1
    def __init__(self, k=1):
        super().__init__()
        self.k = k
    def predict(self, X):
        return super().predict(X)
    @staticmethod
    def rule():
        return 3
    @property
    def kind(self):
        return "a"
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("super().fit(X, y)", "super().fit(X + 1, y)"),
        ("super().predict(X)", "super().predict(X + 1)"),
        ("depth = 1", "depth = 2"),
        ("return 3", "return 4"),
        ('"a"', '"b"'),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_class_of_an_own_estimator_is_part_of_it(load, before, after, wrapped):
    texts = []
    for source in (ESTIMATOR, ESTIMATOR, ESTIMATOR.replace(before, after)):
        own = load(source).Mine()
        estimator = GridSearchCV(own, {"k": [1, 2]}) if wrapped else own
        texts.append(description_of(estimator, cloned=True))
    assert texts[0] == texts[1] != texts[2]


class Slotted:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k

    def choose(self, learner, X, n_instances=1):
        return list(range(self.k, self.k + n_instances))


class Shown(Slotted):
    """An object that is called, and whose repr hides its setting."""

    def __repr__(self):
        return "Shown"

    def __call__(self, learner, X, n_instances=1):
        return self.choose(learner, X, n_instances)


def searching(distribution):
    return RandomizedSearchCV(LogisticRegression(), {"C": distribution})


def typed_in(number):
    scope = {}
    exec(f"def mine(learner, X, n_instances=1):\n    return [x + {number} for x in range(n_instances)]", scope)
    return scope["mine"]


def linked(k):
    ring = Slotted(k)
    ring.k = [ring, {"k": k, "ring": ring}]
    return ring


@pytest.mark.parametrize(
    "make",
    [
        lambda k: Slotted(k).choose,
        Shown,
        linked,
        typed_in,
        lambda k: [lambda x: x + 1, lambda x: x - 1][k - 1],
        lambda k: searching(loguniform(k * 1e-9, 1)),
        lambda k: searching(randint(0, k)),
        lambda k: partial(random_sampling, random_state=np.random.default_rng(k)),
        lambda k: partial(random_sampling, random_state=np.random.RandomState(k)),
        lambda k: partial(random_sampling, graph=sparse.eye(4, format="csr") * k),
        lambda k: partial(random_sampling, model=GaussianNB().fit(np.eye(3) * k, [0, 1, 2])),
        lambda k: FunctionTransformer(partial(Slotted.choose, Slotted(k))),
        lambda k: PredefinedSplit([0] * 2000 + [k] + [0] * 2000),
        lambda k: {"names": np.array([Slotted(k)] * 2, dtype=object)},
        lambda k: {frozenset([Shown(k), "a"])},
        lambda k: partial(random_sampling, rule=re.compile("a" * 300 + str(k))),
        lambda k: partial(random_sampling, table=pd.DataFrame({"a": [1 + k * 1e-9] * 200})),
        lambda k: partial(random_sampling, weights=torch.full((2000,), 1 + k / 1e6)),
    ],
)  # fmt: skip
def test_settings_that_a_repr_does_not_show(make):
    first, same, other = (description_of(make(k)) for k in (1, 1, 2))
    assert first == same != other
    assert "0x" not in first


def test_what_an_estimator_has_learned_counts_where_it_is_used_as_it_is():
    fresh, fitted = GaussianNB(), GaussianNB().fit(np.eye(3), [0, 1, 2])
    assert description_of(fitted, cloned=True) == description_of(fresh, cloned=True) == description_of(fresh)
    assert description_of(fitted) != description_of(fresh)


def test_long_chains_and_many_objects_end(monkeypatch):
    chain = None
    for _ in range(5000):
        chain = [chain]
    doubled = []
    for _ in range(60):
        doubled = [doubled, doubled]
    many = [Slotted(k) for k in range(2000)]
    monkeypatch.setattr(_fingerprints, "MOST_PARTS", 1000)
    for thing in (chain, doubled, many):
        text = description_of(Slotted(thing))
        assert len(text) < 100 and text == description_of(Slotted(thing))


def test_descriptions_of_installed_code_stay():
    """Written down before own code was followed: with other texts the stored runs of users would be repeated."""
    forest = {"cv": KFold(3), "classes": np.array(["a", None], dtype=object), ("a", 1): range(3)}
    expected = {
        "sklearn.naive_bayes.GaussianNB({'priors': 'None', 'var_smoothing': '1e-09'})": GaussianNB(),
        "modal_clip_dual.strategies.random.random_sampling": random_sampling,
        "partial(modal_clip_dual.strategies.random.random_sampling, ['1'], {'random_state': '0'})":
            partial(random_sampling, 1, random_state=0),
        "{'var_smoothing': 'array((2,), float64, 9a3369bdac37b28a)'}": {"var_smoothing": np.array([1e-9, 0.5])},
        """{'cv': 'KFold(n_splits=3, random_state=None, shuffle=False)', 'classes': "array(['a', None], """
        """dtype=object)", ('a', 1): 'range(0, 3)'}""": forest,
        '''["'a'", '[\\'0.5\\', "{\\'a\\'}"]', 'frozenset()']''': ["a", (0.5, {"a"}), frozenset()],
    }  # fmt: skip
    for text, thing in expected.items():
        assert description_of(thing, cloned=True) == description_of(thing) == text
    text = description_of(GridSearchCV(GaussianNB(), {"priors": [None]}, scoring="accuracy"))
    assert text.startswith("sklearn.model_selection._search.GridSearchCV({'cv': 'None', ") and text.endswith("})")
    assert "#" not in description_of(RandomForestClassifier(random_state=3))


SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[1:]
from modal_clip_dual.evaluation._fingerprints import description_of
from everything import things
print(json.dumps([description_of(thing) for thing in things()]))
"""
EVERYTHING = """
import numpy as np
from enum import Enum
from dataclasses import dataclass, field
from functools import partial
from scipy.stats import loguniform
from sklearn.naive_bayes import GaussianNB

WORDS = {"one", "two", "three", ("four", "five"), frozenset(["six", "seven", None])}

@dataclass
class Rule:
    k: int = 1
    words: set = field(default_factory=lambda: set(WORDS))
    def __hash__(self):
        return id(self)

class Color(Enum):
    RED = 1
    BLUE = 2

class Own(GaussianNB):
    rules = {Rule(1), Rule(2), Rule(3)}
    def fit(self, X, y):
        return super().fit(X, y) if len(y) in {"a", "b", 3} else self

def mine(learner, X, n_instances=1, color=Color.RED):
    return [x for x in WORDS if x in {"one", "two", "three", "four"}] + list(Own.rules) + [open, print, mine]

def things():
    scope = {}
    exec("def typed(x):\\n    return x in {'one', 'two', 'three', 'four'}, (lambda: x)", scope)
    return [mine, Own(), Own().fit, scope["typed"], partial(mine, object(), rule=Rule()), loguniform(1, 2),
            np.random.default_rng(0), np.random.mtrand._rand, {mine: 1, Rule: 2}, Color.BLUE, WORDS]
"""


def test_descriptions_are_the_same_in_every_process(load, tmp_path):
    """This process orders sets and strings in one way, the other in another."""
    here = [description_of(thing) for thing in load(EVERYTHING, "everything").things()]
    for seed in ("1", "2"):
        if seed == os.environ.get("PYTHONHASHSEED"):
            continue
        other = subprocess.run(
            [sys.executable, "-c", SCRIPT, PACKAGES, str(tmp_path)], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert json.loads(other.stdout) == here
        break
    assert len(set(here)) == len(here) == 11


# -------------------------------------------------------------------- data


def test_images_count_by_their_pixels_and_files_by_their_content(tmp_path):
    """Names of files, and where they lie, do not matter."""
    pictures = [Image.new("RGB", (4, 4), (60 * k, 0, 0)) for k in range(4)]
    digests = []
    for folder, shift in (("a", 0), ("b", 0), ("a", 1)):
        (tmp_path / folder).mkdir(exist_ok=True)
        files = [tmp_path / folder / f"{k}{folder}.png" for k in range(4)]
        for k, file in enumerate(files):
            pictures[(k + shift) % 4].save(file)
            os.utime(file, (10**9 + shift, 10**9 + shift))  # older than any stored run
        digests.append(digest_of(find_samples(list(map(str, files)), [0, 1, 0, 1])))
    assert digests[0] == digests[1] != digests[2]
    pools = (pictures, [picture.copy() for picture in pictures], pictures[::-1])
    digests = [digest_of(find_samples(pool, [0, 1, 0, 1])) for pool in pools]
    assert digests[0] == digests[1] != digests[2]
    files[2].unlink()
    with pytest.raises(FileNotFoundError, match=r"^X\[2\]: "):
        digest_of(find_samples(list(map(str, files)), [0, 1, 0, 1]))
