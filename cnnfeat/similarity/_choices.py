"""Names of the measures: nothing is loaded for them."""

MEASURES = (
    *("cka", "rsa-correlation", "rsa-euclidean", "rsa-cosine"),
    *("neighbours", "procrustes"),
)
