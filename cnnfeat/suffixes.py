"""Which suffix names which kind of file: one list of each.

Images are listed by suffix and told by their bytes; cnnfeat's own files are told by
their contents wherever that is cheap, and by suffix before anything is opened.
"""

import os

IMAGES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp"),
        *(".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        *(".jp2", ".j2k", ".jpx", ".avif", ".avifs", ".qoi", ".ico"),
    ]
)
FEATURES = frozenset([".h5", ".hdf5"])
HEADS = FEATURES
# What tables and logs are written as, and pictures: each in the format of its suffix.
TABLES = (".csv",)
LOGS = (".jsonl",)
PICTURES = (".png", ".svg", ".pdf")
SAFETENSORS = ".safetensors"
WEIGHTS = frozenset([SAFETENSORS, ".pth", ".pt", ".bin"])
# What `cnnfeat export` writes features as, and what it writes classifiers as.
EXPORTED_FEATURES = (".parquet", ".npz", ".npy", ".h5ad", ".faiss")
PROGRAMS = (".onnx", ".pt2")
# What cnnfeat itself writes weights as.
SAVED_WEIGHTS = (SAFETENSORS, ".pth")


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the lower-case suffix of a path with its dot; empty without one."""
    return os.path.splitext(os.fspath(path))[1].lower()


def is_image_name(name: str) -> bool:
    """Tell whether a file name that is not hidden has a known image suffix."""
    return name[:1] != "." and suffix_of(name) in IMAGES
