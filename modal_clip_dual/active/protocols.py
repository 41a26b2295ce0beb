"""How many samples are labeled when."""

from __future__ import annotations

from dataclasses import dataclass

from ..utils.validation import check_integer, check_number, check_option

FIRST_QUERIES = ("strategy", "random")


@dataclass(frozen=True)
class Protocol:
    """How many samples are labeled when.

    Parameters
    ----------
    n_rounds : int
        Rounds of labeling, at least 1.
    fraction : float, default=None
        Labels per round as a fraction of the pool, above 0 and at most 1.
    per_class : int, default=None
        Labels per round as a multiple of the number of classes, at least 1; in place of ``fraction``.
    first_query : {"strategy", "random"} or None, default=None
        How the first round's samples are chosen.  None leaves it to what follows the protocol:
        `DualPromptLearner` asks its own ``first_query``, by default the strategy; `compare_strategies` draws them.

    Raises
    ------
    TypeError
        If a number is of the wrong type.
    ValueError
        If a number is out of its range, ``first_query`` is unknown, or ``fraction`` and ``per_class`` are both
        given or both missing.

    See Also
    --------
    DualPromptLearner.run : Follows a protocol.

    Examples
    --------
    >>> from modal_clip_dual.active import Protocol
    >>> Protocol(n_rounds=6, fraction=0.01).n_instances(n_pool=1198, n_classes=10)
    12
    >>> Protocol(n_rounds=8, per_class=1).n_instances(n_pool=1198, n_classes=10)
    10
    """

    n_rounds: int
    fraction: float | None = None
    per_class: int | None = None
    first_query: str | None = None

    def __post_init__(self) -> None:
        check_integer("n_rounds", self.n_rounds, least=1)
        if self.fraction is not None:
            check_number("fraction", self.fraction, 0, 1, ends="high")
        if self.per_class is not None:
            check_integer("per_class", self.per_class, least=1)
        if (self.fraction is None) == (self.per_class is None):
            given = "neither fraction nor" if self.fraction is None else "both fraction and"
            raise ValueError(f"{self} has {given} per_class; expected one of them")
        if self.first_query is not None:
            check_option("first_query", self.first_query, FIRST_QUERIES)

    def n_instances(self, n_pool: int, n_classes: int) -> int:
        """Return the number of labels per round.

        Parameters
        ----------
        n_pool : int
            Samples in the pool.
        n_classes : int
            Classes.

        Returns
        -------
        n : int
            At least 1.
        """
        if self.fraction is not None:
            return max(1, round(self.fraction * n_pool))
        assert self.per_class is not None  # one of them is given
        return self.per_class * n_classes


PROTOCOLS = {
    # arXiv 2602.04340: tables at 1, 2 and 5% of the pool
    "paper": Protocol(n_rounds=6, fraction=0.01),
    # PCB, CVPR 2024, arXiv 2311.11178
    "pcb": Protocol(n_rounds=8, per_class=1, first_query="random"),
}


def protocol_of(protocol: str | Protocol) -> Protocol:
    """Return a protocol, or the one of a name.

    Raises
    ------
    ValueError
        If there is no protocol of that name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}; expected one of {sorted(PROTOCOLS)} or a Protocol")
    return PROTOCOLS[protocol]
