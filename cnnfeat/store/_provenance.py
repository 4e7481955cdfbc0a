"""Whether a head and a feature file go together."""

import numpy as np

from cnnfeat.errors import ProvenanceError
from cnnfeat.heads import Head
from cnnfeat.image_table import are_others
from cnnfeat.layer_spec import LayerSpec
from cnnfeat.readback import Malformed, parse_json
from cnnfeat.store._features import FeatureFile
from cnnfeat.value_range import AUTO, FULL

# What must agree, and the argument that sets it. The decoder counts because decoders
# differ by whole grey levels; the engine, precision and device are tolerances.
_FIELDS = {
    "model": "`model`",
    "weights_sha256": "`weights`",
    "preprocessing": "`weights`",
    "crops": "`crops`",
    "decoder": "`decoder`",
    "range": "`value_range`",
}
# What files of earlier versions, which do not record it, were made with.
_EARLIER = {"range": FULL}


def check_same_provenance(head: Head, features: FeatureFile) -> tuple[str, ...]:
    """Return the layers of `features` that `head` applies to.

    Returns
    -------
    tuple of str
        For `FeatureFile.read`: the datasets tapped where the head's were, whatever
        their names.

    Raises
    ------
    ProvenanceError
        If the two differ in model, weights, preprocessing, crops, decoder, range,
        layer, shape or pool; names the field, both values and the option to extract
        with.
    """
    for field, option in _FIELDS.items():
        earlier = _EARLIER.get(field, "not recorded")
        trained = head.provenance.get(field, earlier)
        found = features.provenance.get(field, earlier)
        # No image had more than 8 bits: whatever the range is, it changes nothing.
        if field == "range" and AUTO in (trained, found):
            continue
        if _canonical(trained) != _canonical(found):
            raise _mismatch(features, field, found, trained, option)
    return tuple(_matching(spec, features) for spec in head.layer_specs)


def is_trained_from(head: Head, features: FeatureFile) -> bool:
    """Return whether the head's training rows are rows of this feature file.

    The list of images must be the same, and so must the content of each training image
    where both files know it: equal names alone would take a test folder with the same
    file names for the training folder.
    """
    return _has_same_list(head, features) and _has_same_content(head, features)


def _has_same_content(head: Head, features: FeatureFile) -> bool:
    """Return whether no training image has other bytes here than it had there."""
    rows = np.arange(features.n_images)
    digest_of = dict(zip(features.paths, features.table.digests(rows), strict=True))
    trained = zip(head.training_paths, head.training_digests, strict=False)
    return not any(
        are_others(digest, digest_of.get(path, digest)) for path, digest in trained
    )


def _has_same_list(head: Head, features: FeatureFile) -> bool:
    """Compare the digests of the lists where both are known, else root and paths."""
    ours, theirs = (
        provenance.get("images_sha256")
        for provenance in (head.provenance, features.provenance)
    )
    # A shard has the digest of the whole list, and some of its rows.
    shards = {one.get("shard") for one in (head.provenance, features.provenance)}
    if ours and theirs and len(shards) == 1:
        return ours == theirs
    here = set(features.paths)
    return head.root == features.table.root and all(
        path in here for path in head.training_paths + head.heldout_paths
    )


def _matching(spec: LayerSpec, features: FeatureFile) -> str:
    """Return the dataset that equals `spec` in all but name and dtype."""
    candidates = [
        found for found in features.layers.values() if found.layer == spec.layer
    ]
    if not candidates:
        there = ", ".join(found.layer for found in features.layers.values())
        raise _mismatch(features, "layer", there, spec.layer, "`layers`")
    fields = [
        ("before_nonlinearity", "`layers`"),
        ("pool", "`pool`"),
        ("shape", "`pool`"),
    ]
    if spec.pool in ("avg", "max"):
        # Files of an earlier version have averages over all tokens, and None here.
        fields.append(("n_prefix_tokens", "`tokens`"))
    for field, option in fields:
        wanted = getattr(spec, field)
        matching = [found for found in candidates if getattr(found, field) == wanted]
        if not matching:
            there = " or ".join(str(getattr(found, field)) for found in candidates)
            name = f"{field} of layer {spec.layer}"
            raise _mismatch(features, name, there, str(wanted), option)
        candidates = matching
    named = [found.name for found in candidates if found.name == spec.name]
    return named[0] if named else candidates[0].name


def _mismatch(
    features: FeatureFile, field: str, found: str, trained: str, option: str
) -> ProvenanceError:
    return ProvenanceError(
        f"{features.path}: {field} is {found!r}, but the head was trained on "
        f"{trained!r}; extract the images again with the same {option}"
    )


def _canonical(text: str) -> object:
    """Return JSON as its value, so that the order of its keys does not matter."""
    try:
        return parse_json(text, "")
    except Malformed:
        return text
