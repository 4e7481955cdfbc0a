from ._columns import RowColumns as RowColumns
from ._extras import require as require
from ._foreign import LABELS as LABELS, PATHS as PATHS, Foreign as Foreign
from ._reading import read_foreign as read_foreign
from ._writing import exported_files as exported_files, write_features as write_features
