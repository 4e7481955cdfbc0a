"""A matrix in memory that behaves like one streamed from a feature file."""


class ListSource:
    """Rows handed out in blocks, as a feature file does."""

    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype

    def blocks(self, n_rows):
        for start in range(0, len(self.X), min(n_rows, 7)):
            rows = slice(start, min(start + min(n_rows, 7), len(self.X)))
            yield rows, self.X[rows]
