"""The verb that tells what any file of cnnfeat's holds."""

from typing import Any

from cnnfeat import suffixes


def describe_file(path: str) -> dict[str, Any]:
    """Return what a feature, head or weights file holds, as JSON can hold it.

    Raises
    ------
    StoreError, WeightsError
        If the file is none of these, or damaged.
    """
    if suffixes.suffix_of(path) in suffixes.WEIGHTS:
        from cnnfeat.networks import weights_summary

        return weights_summary(path)
    from cnnfeat.store import file_summary

    return file_summary(path)
