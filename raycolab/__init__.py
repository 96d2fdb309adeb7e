"""One real Ray cluster out of a handful of notebook sessions, and a hyperparameter sweep on it."""
