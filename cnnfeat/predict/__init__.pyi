from ._report import (
    Prediction as Prediction,
    PredictOptions as PredictOptions,
    PredictReport as PredictReport,
)
from ._run import (
    predict_images as predict_images,
)
