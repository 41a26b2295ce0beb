"""Active CLIP adaptation with dual prompt tuning, as a plugin for modAL."""

from importlib import import_module

from ._compat import mend_modal

__version__ = "0.1.0"

# Name -> module that defines it.  Resolved on first use, so that importing the package
# costs neither torch nor open_clip, skorch, scikit-learn or modAL.
_PUBLIC = {
    "CLIPImageEncoder": "encoder",
    "DualPromptClassifier": "classifier",
    "DualPromptLearner": "active",
    "mine_confident": "strategies",
    "negative_prompt_sampling": "strategies",
    "negative_prompt_uncertainty": "strategies",
    "random_sampling": "strategies",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name):
    if name in _PUBLIC:
        value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_PUBLIC})


mend_modal()
