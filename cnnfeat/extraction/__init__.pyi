from ._engines import ENGINES as ENGINES
from ._extractor import Extractor as Extractor
from ._incremental import (
    IncrementalExtractor as IncrementalExtractor,
    NoFixedGraphError as NoFixedGraphError,
)
from ._interfaces import (
    AnyExtractor as AnyExtractor,
    Sink as Sink,
    Source as Source,
)
from ._planning import return_memory as return_memory
from ._programs import record_program as record_program
from ._run import StageSeconds as StageSeconds, compute as compute, run as run
from ._sinks import ArraySink as ArraySink
from ._sources import ImageSource as ImageSource
