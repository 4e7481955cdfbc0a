from ._version import __version__ as __version__
from .benchmark import (
    BenchmarkOptions as BenchmarkOptions,
    BenchmarkReport as BenchmarkReport,
    DrawOptions as DrawOptions,
    run_benchmark as run_benchmark,
)
from .compare import (
    CompareOptions as CompareOptions,
    CompareReport as CompareReport,
    compare_features as compare_features,
)
from .errors import CnnfeatError as CnnfeatError, CnnfeatWarning as CnnfeatWarning
from .evaluate import (
    EvaluateOptions as EvaluateOptions,
    EvaluationReport as EvaluationReport,
    evaluate_head as evaluate_head,
    evaluate_images as evaluate_images,
)
from .export import (
    ExportOptions as ExportOptions,
    ExportReport as ExportReport,
    export_file as export_file,
)
from .extract import (
    ExtractOptions as ExtractOptions,
    ExtractReport as ExtractReport,
    FeatureArrays as FeatureArrays,
    extract_arrays as extract_arrays,
    extract_features as extract_features,
)
from .finetune import (
    FinetuneOptions as FinetuneOptions,
    FinetuneReport as FinetuneReport,
    Listener as Listener,
    finetune_network as finetune_network,
)
from .heads import (
    FeatureTransform as FeatureTransform,
    Head as Head,
    LinearSVM as LinearSVM,
    Softmax as Softmax,
)
from .image_table import ImageTable as ImageTable
from .images import (
    LabelOptions as LabelOptions,
    ManifestOptions as ManifestOptions,
    Preprocessing as Preprocessing,
    list_images as list_images,
    relabel as relabel,
)
from .import_ import (
    ImportOptions as ImportOptions,
    ImportReport as ImportReport,
    import_features as import_features,
)
from .layers import (
    Tap as Tap,
    Tapper as Tapper,
    layer_table as layer_table,
    resolve_layers as resolve_layers,
)
from .leaks import (
    LeaksOptions as LeaksOptions,
    LeaksReport as LeaksReport,
    find_leaks as find_leaks,
)
from .merge import (
    MergeOptions as MergeOptions,
    MergeReport as MergeReport,
    merge_shards as merge_shards,
)
from .networks import Network as Network, load_network as load_network
from .predict import (
    PredictOptions as PredictOptions,
    PredictReport as PredictReport,
    predict_images as predict_images,
)
from .splits import (
    Split as Split,
    draw_folds as draw_folds,
    draw_share as draw_share,
    draw_split as draw_split,
)
from .store import (
    FeatureFile as FeatureFile,
    load_head as load_head,
    open_features as open_features,
    save_head as save_head,
)
from .suspects import (
    SuspectsOptions as SuspectsOptions,
    SuspectsReport as SuspectsReport,
    find_suspects as find_suspects,
)
from .train import (
    TrainOptions as TrainOptions,
    TrainReport as TrainReport,
    train_head as train_head,
)
