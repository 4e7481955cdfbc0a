from ._class_plots import (
    plot_confusion_matrix as plot_confusion_matrix,
    plot_per_class_accuracy as plot_per_class_accuracy,
)
from ._classes import (
    similarity_order as similarity_order,
)
from ._confusion_sheet import (
    ConfusionSheet as ConfusionSheet,
)
from ._figures import (
    figure_bytes as figure_bytes,
    save_figure as save_figure,
)
from ._html import (
    ReportFigure as ReportFigure,
    ReportPage as ReportPage,
    render_html as render_html,
    save_html as save_html,
)
from ._image_plots import (
    ConfusedPair as ConfusedPair,
    find_confused_pairs as find_confused_pairs,
    plot_confused_pairs as plot_confused_pairs,
    plot_contact_sheet as plot_contact_sheet,
)
from ._likeness_plot import (
    plot_likeness_matrix as plot_likeness_matrix,
)
from ._numbers import (
    format_amount as format_amount,
    format_number as format_number,
    format_percent as format_percent,
    format_range as format_range,
)
from ._panels import (
    Panel as Panel,
    heat_over as heat_over,
    mosaic as mosaic,
    plot_panels as plot_panels,
    signed_image as signed_image,
)
from ._plots import (
    Series as Series,
    plot_accuracy_by_layer as plot_accuracy_by_layer,
    plot_c_curve as plot_c_curve,
    plot_learning_curve as plot_learning_curve,
    plot_training_curves as plot_training_curves,
)
from ._predictions import (
    Predictions as Predictions,
    plot_mistakes as plot_mistakes,
)
from ._references import (
    Reference as Reference,
)
from ._tables import (
    Column as Column,
    MeanStd as MeanStd,
    Table as Table,
)
