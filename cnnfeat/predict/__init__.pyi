from ._classifier import (
    Classifier as Classifier,
    read_classifier as read_classifier,
)
from ._report import (
    Prediction as Prediction,
    PredictOptions as PredictOptions,
    PredictReport as PredictReport,
)
from ._run import (
    predict_images as predict_images,
    score_images as score_images,
)
