from ._class_plots import (
    plot_confusion_matrix as plot_confusion_matrix,
)
from ._class_plots import (
    plot_per_class_accuracy as plot_per_class_accuracy,
)
from ._figures import (
    figure_png as figure_png,
)
from ._figures import (
    save_figure as save_figure,
)
from ._html import (
    ReportFigure as ReportFigure,
)
from ._html import (
    ReportPage as ReportPage,
)
from ._html import (
    render_html as render_html,
)
from ._html import (
    save_html as save_html,
)
from ._image_plots import (
    ConfusedPair as ConfusedPair,
)
from ._image_plots import (
    find_confused_pairs as find_confused_pairs,
)
from ._image_plots import (
    plot_confused_pairs as plot_confused_pairs,
)
from ._image_plots import (
    plot_contact_sheet as plot_contact_sheet,
)
from ._plots import (
    Series as Series,
)
from ._plots import (
    plot_accuracy_by_layer as plot_accuracy_by_layer,
)
from ._plots import (
    plot_c_curve as plot_c_curve,
)
from ._plots import (
    plot_learning_curve as plot_learning_curve,
)
from ._plots import (
    plot_training_curves as plot_training_curves,
)
from ._references import (
    Reference as Reference,
)
from ._tables import (
    Column as Column,
)
from ._tables import (
    MeanStd as MeanStd,
)
from ._tables import (
    Table as Table,
)
from ._tables import (
    format_percent as format_percent,
)
