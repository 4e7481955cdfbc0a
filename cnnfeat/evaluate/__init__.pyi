from ._head import (
    evaluate_head as evaluate_head,
    score_heldout as score_heldout,
)
from ._images import (
    EvaluateOptions as EvaluateOptions,
    evaluate_images as evaluate_images,
    evaluate_model as evaluate_model,
)
from ._outcome import (
    EvaluationOutputs as EvaluationOutputs,
    EvaluationReport as EvaluationReport,
)
