from ._options import ExportOptions as ExportOptions, ExportReport as ExportReport
from ._run import export_file as export_file
