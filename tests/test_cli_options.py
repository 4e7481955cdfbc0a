"""One flag, one meaning; one default, whether a shell or Python asks."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cnnfeat.benchmark import BenchmarkOptions, DrawOptions
from cnnfeat.cli.main import COMMANDS, cli
from cnnfeat.compare import CompareOptions
from cnnfeat.export import ExportOptions
from cnnfeat.extract import ExtractOptions
from cnnfeat.finetune import FinetuneOptions
from cnnfeat.import_ import ImportOptions
from cnnfeat.leaks import LeaksOptions
from cnnfeat.merge import MergeOptions
from cnnfeat.predict import PredictOptions
from cnnfeat.suspects import SuspectsOptions
from cnnfeat.train import TrainOptions

ROOT = Path(__file__).resolve().parent.parent


class Asked(Exception):
    """Carries what a command handed to its verb."""


# Command line without options -> the verb it calls, and what that has to be handed.
VERBS = {
    "extract i -o f.h5": ("cnnfeat.extract.extract_features", ExtractOptions()),
    "train svm f.h5 -o h.h5": ("cnnfeat.train.train_head", TrainOptions()),
    "train-svm f.h5 -o h.h5": ("cnnfeat.train.train_head", TrainOptions()),
    "train-softmax f.h5 -o h.h5": (
        "cnnfeat.train.train_head",
        TrainOptions(kind="softmax"),
    ),
    "leaks f.h5": ("cnnfeat.leaks.find_leaks", LeaksOptions()),
    "suspects f.h5": ("cnnfeat.suspects.find_suspects", SuspectsOptions()),
    "compare f.h5": ("cnnfeat.compare.compare_features", CompareOptions()),
    "benchmark f.h5": ("cnnfeat.benchmark.run_benchmark", BenchmarkOptions()),
    "splits f.h5 -o s.csv": ("cnnfeat.benchmark.write_splits", DrawOptions()),
    "finetune i -o w.pth": ("cnnfeat.finetune.finetune_network", FinetuneOptions()),
    "merge s.h5 -o f.h5": ("cnnfeat.merge.merge_shards", MergeOptions()),
    "import x.npz -o f.h5": ("cnnfeat.import_.import_features", ImportOptions()),
    "export f.h5 -o x.npz": ("cnnfeat.export.export_file", ExportOptions()),
    "predict h.h5 i": ("cnnfeat.predict.predict_images", PredictOptions()),
}


@pytest.mark.parametrize("line", VERBS)
def test_the_defaults_of_a_command_are_those_of_its_dataclass(line, monkeypatch):
    verb, expected = VERBS[line]

    def ask(*args, **kwargs):
        raise Asked(*(one for one in args if isinstance(one, type(expected))))

    monkeypatch.setattr(verb, ask)
    result = CliRunner().invoke(cli, line.split())
    assert isinstance(result.exception, Asked), result.output
    assert result.exception.args == (expected,)


@pytest.mark.parametrize(
    "line", ["extract i -o f.h5", "finetune i -o w.pth", "predict h.h5 i"]
)
def test_workers_without_bound_are_refused(line):
    result = CliRunner().invoke(cli, [*line.split(), "--workers", "100000"])
    assert result.exit_code == 2
    told = result.output.splitlines()[-1]
    assert "--workers" in told
    assert "100000 processes are more than the 1,024" in told


@pytest.mark.parametrize("line", VERBS)
def test_every_field_of_a_dataclass_has_its_option(line):
    """Save for `kind`, which is the command's name, and `draw`, the rows' own class."""
    options = VERBS[line][1]
    command = cli.get_command(click.Context(cli), line.split()[0])
    fields = set(options.__dataclass_fields__) - {"kind", "draw"}
    if line.startswith("splits"):  # it writes one set of splits, and reads none
        fields -= {"train_sizes", "splits_file"}
    assert fields <= {parameter.name for parameter in command.params}


def commands_by_option():
    """Return {flag: {definition: commands}}; equal definitions are one option."""
    found = defaultdict(lambda: defaultdict(set))
    for name in COMMANDS:
        for option in cli.get_command(click.Context(cli), name).params:
            if isinstance(option, click.Option):
                info = json.dumps(option.to_info_dict(), default=str, sort_keys=True)
                definition = (info, option.callback)
                for flag in option.opts:
                    found[flag][definition].add(name)
    return found


def documented_exceptions():
    """Return the (flag, commands) of each row of the table in docs/cli.md."""
    rows = re.findall(r"^\| `(--?\S+)` \| (.*?) \|", PAGE.read_text(), re.M)
    return [(flag, frozenset(re.findall(r"`([^`]+)`", where))) for flag, where in rows]


PAGE = ROOT / "docs" / "cli.md"


def test_a_flag_means_the_same_everywhere_or_stands_in_the_table():
    exceptions = [
        (flag, frozenset(commands))
        for flag, options in commands_by_option().items()
        if len(options) > 1 and flag != "-o"
        for commands in options.values()
    ]
    # Counted, as the text of a set has another order in each process.
    assert Counter(exceptions) == Counter(documented_exceptions())
    assert {flag for flag, _ in exceptions} == {
        *("--output", "--layer", "--model", "--batch-size", "--dropout"),
        *("--top", "--method", "--class", "--size", "--stride"),
    }
