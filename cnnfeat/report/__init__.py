"""Tables, plots and one HTML page from results that others computed.

Computes no score, decodes no image, prints nothing. matplotlib is imported only when
the first figure is made.
"""

from cnnfeat.report.class_plots import plot_confusion_matrix, plot_per_class_accuracy
from cnnfeat.report.figures import figure_png, save_figure
from cnnfeat.report.html import ReportFigure, ReportPage, render_html, save_html
from cnnfeat.report.image_plots import (
    ConfusedPair,
    find_confused_pairs,
    plot_confused_pairs,
    plot_contact_sheet,
)
from cnnfeat.report.plots import (
    Series,
    plot_accuracy_by_layer,
    plot_c_curve,
    plot_learning_curve,
    plot_training_curves,
)
from cnnfeat.report.references import Reference
from cnnfeat.report.tables import Column, MeanStd, Table, format_percent

__all__ = [
    "Column",
    "ConfusedPair",
    "MeanStd",
    "Reference",
    "ReportFigure",
    "ReportPage",
    "Series",
    "Table",
    "figure_png",
    "find_confused_pairs",
    "format_percent",
    "plot_accuracy_by_layer",
    "plot_c_curve",
    "plot_confused_pairs",
    "plot_confusion_matrix",
    "plot_contact_sheet",
    "plot_learning_curve",
    "plot_per_class_accuracy",
    "plot_training_curves",
    "render_html",
    "save_figure",
    "save_html",
]
