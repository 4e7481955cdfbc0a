from . import (
    benchmark as benchmark,
    common as common,
    evidence as evidence,
    extraction as extraction,
    finetune as finetune,
    heads as heads,
    images as images,
    listing as listing,
    parsing as parsing,
    predict as predict,
    rows as rows,
    visualize as visualize,
)
