"""Literal, slow versions of rules and formulas, which several tests compare with."""


def literal(scores, predicted, n, n_classes, remainder):
    """method.md, "The active-learning loop", step 3, in its own words."""
    groups = {k: [] for k in range(n_classes)}
    for row in sorted(range(len(scores)), key=lambda row: (scores[row], row)):
        groups[predicted[row]].append(row)
    chosen = []
    for group in groups.values():
        for _ in range(min(n // n_classes, len(group))):
            chosen.append(group.pop(0))
    while len(chosen) < n:
        if remainder == "per-class":
            candidates = [group[0] for group in groups.values() if group]
        else:
            candidates = [row for group in groups.values() for row in group]
        candidates.sort(key=lambda row: (scores[row], row))
        for row in candidates[: n - len(chosen)]:
            chosen.append(row)
            groups[predicted[row]].remove(row)
    return sorted(chosen, key=lambda row: (scores[row], row))
