"""What scikit-learn asks of a ``transform`` that is another estimator's."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if


def _transforming(self: Any) -> bool:
    return all(hasattr(part, "set_output") and hasattr(part, "transform") for part in self._transforms_by()[-1:])


class DelegatedTransform:
    """Set and name the output of a ``transform`` that asks other estimators: those of ``_transforms_by``."""

    def _transforms_by(self) -> list[Any]:
        """Return the estimators whose ``transform`` may be asked, the one in use last."""
        raise NotImplementedError(f"{type(self).__name__} has no _transforms_by")  # a subclass writes it

    @available_if(_transforming)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def set_output(self, *, transform: str | None = None) -> Any:
        """Choose the container that `transform` returns, as a Pipeline does: of the estimators inside, in place.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            Container; None changes nothing.

        Returns
        -------
        self : object
        """
        for part in self._transforms_by():
            if hasattr(part, "set_output"):
                part.set_output(transform=transform)
        return self

    @available_if(_transforming)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used.

        Returns
        -------
        names : ndarray of str
        """
        names: np.ndarray = self._transforms_by()[-1].get_feature_names_out(input_features)
        return names
