"""Tables and columns of Polars and Apache Arrow as X and y; as the same numbers in NumPy."""

import numpy as np
import pytest
from modAL.models import ActiveLearner
from PIL import Image

from modal_clip_dual import (
    CLIPImageEncoder,
    DualLinearClassifier,
    DualPromptLearner,
    TipAdapterClassifier,
    random_sampling,
)
from modal_clip_dual.utils.labels import check_labels

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
N = 40


class Tables:
    """What tests of both libraries share; a subclass makes the tables."""

    @pytest.fixture
    def X(self, embeddings):
        return embeddings[:N]

    @pytest.fixture
    def y(self, digits):
        return digits.target[:N]

    def frames(self, X):
        """Tables with a column per feature, called f0 and so on."""
        raise NotImplementedError

    def columns(self, X):
        """Columns, or tables with one, of an embedding per row."""
        raise NotImplementedError

    def labels(self, y):
        """Columns of labels."""
        raise NotImplementedError

    def lists(self, values):
        """A column of plain values, in which None is missing."""
        raise NotImplementedError

    def test_embeddings(self, X, y, digits):
        expected = TipAdapterClassifier(digits.class_names, **DEMO).fit(X, y).predict_proba(X)
        for table in [*self.frames(X), *self.columns(X)]:
            clf = TipAdapterClassifier(digits.class_names, **DEMO).fit(table, y)
            np.testing.assert_allclose(clf.predict_proba(table), expected, atol=1e-5)
            assert clf.n_features_in_ == X.shape[1]
            np.testing.assert_allclose(CLIPImageEncoder(**DEMO).fit(table).transform(table), X, atol=1e-6)
        for table in self.columns(X):  # without names of columns, so that either may follow the other
            np.testing.assert_allclose(clf.fit(X, y).predict_proba(table), expected, atol=1e-5)
            np.testing.assert_allclose(clf.fit(table, y).predict_proba(X), expected, atol=1e-5)

    def test_names_of_columns_are_known(self, X, y, digits):
        names = [f"f{k}" for k in range(X.shape[1])]
        table = self.frames(X)[0]
        clf = TipAdapterClassifier(digits.class_names, **DEMO).fit(table, y)
        assert clf.feature_names_in_.tolist() == names
        with pytest.raises(ValueError, match="feature names should match"):
            clf.predict(table.select(names[::-1]))

    def test_labels(self, X, y, digits):
        names = np.array(digits.class_names)[y]
        for column in self.labels(y):
            np.testing.assert_array_equal(check_labels(column), y)
        for column in self.labels(names):
            np.testing.assert_array_equal(check_labels(column), names)
            assert set(TipAdapterClassifier(digits.class_names, **DEMO).fit(X, column).classes_) == set(names)

    def test_labels_that_are_none(self):
        for values in ([3, 4, None], ["a", "b", None]):
            with pytest.raises(ValueError, match=r"^y\[2\] is missing"):
                check_labels(self.lists(values))
        with pytest.raises(ValueError, match=r"^y\[1\] is 1.5, no whole number"):
            check_labels(self.lists([1.0, 1.5]))

    def test_a_loop(self, X, y, digits):
        clf = DualLinearClassifier(digits.class_names, **DEMO)
        expected = DualPromptLearner(clf, X).start().query(n_instances=5)[0]
        for pool in [*self.frames(X), *self.columns(X)]:
            learner = DualPromptLearner(DualLinearClassifier(digits.class_names, **DEMO), pool).start()
            rows = learner.query(n_instances=5)[0]
            np.testing.assert_array_equal(rows, expected)
            learner.teach(rows=self.lists(rows.tolist()), y=self.lists(y[rows].tolist()), train=False)
            assert learner.rows_.tolist() == rows.tolist() and learner.labels_.tolist() == y[rows].tolist()

    def test_modals_own_learner(self, X, y, digits):
        """It takes them but for the pool of a query, of which modAL picks rows only where it knows the table."""
        clf = TipAdapterClassifier(digits.class_names, **DEMO)
        first, more, pool = (self.frames(X[rows])[0] for rows in (slice(10), slice(10, 12), slice(12, N)))
        learner = ActiveLearner(clf, X_training=first, y_training=y[:10], query_strategy=random_sampling)
        learner.teach(more, y[10:12])
        np.testing.assert_allclose(learner.X_training, X[:12], atol=1e-6)
        with pytest.raises(TypeError, match="datatype is not supported"):
            learner.query(pool)
        assert len(learner.query(np.asarray(pool))[0]) == 1

    def test_paths(self, digits, tmp_path, X):
        paths = [str(tmp_path / f"{k}.png") for k in range(3)]
        for path, image in zip(paths, digits.images):
            Image.fromarray(image).save(path)
        np.testing.assert_allclose(CLIPImageEncoder(**DEMO).transform(self.lists(paths)), X[:3], atol=1e-5)
        with pytest.raises(TypeError, match=r"X\[1\] is None"):
            CLIPImageEncoder(**DEMO).transform(self.lists([paths[0], None]))

    def test_an_embedding_is_missing(self):
        with pytest.raises(ValueError, match=r"X\[1\] is None"):
            CLIPImageEncoder(**DEMO).transform(self.lists([[0.5, 1.5], None]))


class TestPolars(Tables):
    @pytest.fixture(autouse=True)
    def library(self):
        self.pl = pytest.importorskip("polars")

    def frames(self, X):
        return [self.pl.DataFrame(X, schema=[f"f{k}" for k in range(X.shape[1])])]

    def columns(self, X):
        array = self.pl.Series("e", X.tolist(), dtype=self.pl.Array(self.pl.Float32, X.shape[1]))
        return [array, self.lists(X.tolist()), self.pl.DataFrame({"e": array})]

    def labels(self, y):
        column = self.lists(y.tolist())
        return [column] if y.dtype.kind == "i" else [column, column.cast(self.pl.Categorical)]

    def lists(self, values):
        return self.pl.Series(values)

    def test_what_is_not_computed_yet(self, X):
        with pytest.raises(TypeError, match=r"^X is a LazyFrame.*when it is asked: X.collect\(\); expected"):
            CLIPImageEncoder(**DEMO).transform(self.frames(X)[0].lazy())


class TestArrow(Tables):
    @pytest.fixture(autouse=True)
    def library(self):
        self.pa = pytest.importorskip("pyarrow")

    def frames(self, X):
        names = [f"f{k}" for k in range(X.shape[1])]
        table = self.pa.table(dict(zip(names, map(self.pa.array, X.T.copy()))))
        return [table, *table.to_batches()]

    def columns(self, X):
        array = self.pa.FixedSizeListArray.from_arrays(self.pa.array(X.ravel()), X.shape[1])
        halves = self.pa.chunked_array([array[: N // 2], array[N // 2 :]])
        return [array, halves, self.lists(X.tolist()), self.pa.table({"e": halves})]

    def labels(self, y):
        column = self.lists(y.tolist())
        return [column, column.dictionary_encode(), self.pa.chunked_array([column[:10], column[10:]])]

    def lists(self, values):
        return self.pa.array(values)

    def test_class_names(self, X, y, digits):
        names = self.lists(digits.class_names)
        with pytest.raises(ValueError, match=r"class_names contains .*: class_names.to_pylist\(\)"):
            TipAdapterClassifier(names, **DEMO).fit(X, y)
