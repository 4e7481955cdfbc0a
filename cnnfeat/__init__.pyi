from ._version import __version__ as __version__
from .errors import CnnfeatError as CnnfeatError
from .errors import CnnfeatWarning as CnnfeatWarning
from .evaluate import (
    EvaluationReport as EvaluationReport,
)
from .evaluate import (
    evaluate_head as evaluate_head,
)
from .extract import (
    ExtractOptions as ExtractOptions,
)
from .extract import (
    ExtractReport as ExtractReport,
)
from .extract import (
    extract_features as extract_features,
)
from .finetune import (
    FinetuneOptions as FinetuneOptions,
)
from .finetune import (
    FinetuneReport as FinetuneReport,
)
from .finetune import (
    finetune_network as finetune_network,
)
from .heads import (
    FeatureTransform as FeatureTransform,
)
from .heads import (
    LinearSVM as LinearSVM,
)
from .heads import (
    Softmax as Softmax,
)
from .images import (
    ImageList as ImageList,
)
from .images import (
    Preprocessing as Preprocessing,
)
from .images import (
    list_images as list_images,
)
from .layers import Tapper as Tapper
from .layers import layer_table as layer_table
from .networks import Network as Network
from .networks import load_network as load_network
from .predict import predict_images as predict_images
from .splits import Split as Split
from .splits import draw_split as draw_split
from .store import (
    FeatureFile as FeatureFile,
)
from .store import (
    Head as Head,
)
from .store import (
    load_head as load_head,
)
from .store import (
    open_features as open_features,
)
from .store import (
    save_head as save_head,
)
from .train import (
    TrainOptions as TrainOptions,
)
from .train import (
    TrainReport as TrainReport,
)
from .train import (
    train_head as train_head,
)
