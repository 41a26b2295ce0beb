"""Meta-estimators that say whether the label of any classifier is right."""
