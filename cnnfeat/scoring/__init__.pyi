from ._classifier import (
    Classifier as Classifier,
    extractor_of as extractor_of,
    read_classifier as read_classifier,
)
from ._options import (
    ScoringOptions as ScoringOptions,
)
from ._scores import (
    hand_on_scores as hand_on_scores,
    score_images as score_images,
)
