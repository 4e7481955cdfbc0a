"""Write docs/cli.md from the commands' own `--help`; with --check, only compare."""

import sys
from pathlib import Path

from click.testing import CliRunner

from cnnfeat.cli.main import COMMANDS, MAX_WIDTH, cli

PAGE = Path(__file__).with_name("cli.md")
HEADER = """# Command reference

Made from `--help` by `make docs`; `make check` fails when it is out of date. Results go
to stdout, everything else to stderr.

Exit status: 0 done, 1 a named error, 2 wrong usage, 128 + its number after a signal.
SIGINT, SIGTERM and SIGHUP stop every command alike, and no output is left half-written.
`extract` and `finetune` stop at a place where `--resume` goes on. A second signal ends
the program at once.

A list (`--layer`, `--C`, `--head`, `--baseline`, `--exclude`, `--train-sizes`) is
repeated or has commas, or both: `--layer conv5,fc6 --layer fc7`. `-q` leaves out
progress and notes, `-v` says where the time went.

`CNNFEAT_<COMMAND>_<OPTION>` in the environment is the default of an option; what is
typed counts more. Files that a command writes keep these beside the command line.

```sh
export CNNFEAT_EXTRACT_MODEL=resnet50 CNNFEAT_EXTRACT_DEVICE=cuda:1
export CNNFEAT_TRAIN_SVM_C=1,10,100 CNNFEAT_PREDICT_QUIET=1     # a flag is 1 or 0
```

Commands, options, networks (`--model`, `cnnfeat models`), layers (`--layer`, `cnnfeat
layers`) and files are completed, once one of these lines stands in the start-up file
of the shell:

```sh
eval "$(_CNNFEAT_COMPLETE=bash_source cnnfeat)"     # ~/.bashrc, bash 4.4 or later
eval "$(_CNNFEAT_COMPLETE=zsh_source cnnfeat)"      # ~/.zshrc
_CNNFEAT_COMPLETE=fish_source cnnfeat | source      # ~/.config/fish/config.fish
```

A flag means the same in every command. These few name different things of one kind:

| flag | in | stands for |
|---|---|---|
| `--output` | `extract`, `import`, `merge` | the feature file to write |
| `--output` | `train`, `train-svm`, `train-softmax` | the head file to write |
| `--output` | `splits` | the CSV of rows to write |
| `--output` | `finetune` | the weights file to write |
| `--output` | `export` | the file to write, in the format of its suffix |
| `--output` | `leaks` | the CSV of pairs to write |
| `--output` | `suspects` | the CSV of all images to write |
| `--output` | `compare` | the CSV of every two sets to write |
| `--output` | `predict` | the CSV of predictions; printed without it |
| `--output` | {looks} | the picture to draw |
| `--layer` | `extract` | layers of the network, by name or glob |
| `--layer` | {of_a_file} | of the file |
| `--layer` | `import` | arrays of another tool's file |
| `--layer` | `export` | layers of the feature file |
| `--layer` | `benchmark`, `compare` | the same, repeatable: each by itself |
| `--layer` | {looks_at_one} | the layer to look at |
| `--layer` | `visualize top-patches` | layers of maps, several at once |
| `--model` | `extract`, `layers`, `finetune`, {with_models} | the network to load |
| `--model` | `evaluate`, `export`, `predict` | the network of weights that name none |
| `--model` | `import` | what computed the features; a note in the file |
| `--batch-size` | {passes} | images in one forward pass |
| `--batch-size` | `finetune` | images in one training step |
| `--dropout` | `train`, `train-svm`, `train-softmax`, `benchmark` | features left out |
| `--dropout` | `finetune` | rate of the network's dropout layers |
| `--top` | `predict` | classes to give |
| `--top` | `visualize top-patches` | patches of each unit |
| `--top` | `visualize explain` | classes to explain |
| `--top` | `visualize neighbours` | images near each query |
| `--class` | `visualize occlusion`, `visualize project` | a class of the network |
| `--class` | `visualize explain` | a class of the head |
| `--size` | `visualize occlusion` | sides of squares; several make several maps |
| `--size` | `visualize explain` | side of the squares of one map |
| `--stride` | `visualize occlusion` | pixels between the squares |
| `--stride` | `visualize explain` | pixels between the squares of one map |
| `--method` | `visualize project` | how the signal goes back |
| `--method` | `visualize top-patches` | what is drawn beside each patch |
"""


def render() -> str:
    """Return the whole page."""
    pages = [(), *(tuple(name.split()) for name in COMMANDS)]
    looks = [f"`{name}`" for name in COMMANDS if name.startswith("visualize")]
    own = ("`visualize top-patches`", "`visualize explain`", "`visualize neighbours`")
    one = [name for name in looks if name not in own]
    header = HEADER.replace("{looks}", ", ".join(looks))
    with_models = [name for name in looks if name not in own[1:]]
    header = header.replace("{with_models}", ", ".join(with_models))
    header = header.replace("{looks_at_one}", ", ".join(one))
    of_a_file = "`train`, `train-svm`, `train-softmax`, `leaks`, `suspects`, "
    header = header.replace("{of_a_file}", of_a_file + "`visualize neighbours`")
    passes = "`evaluate`, `extract`, `predict`, `visualize top-patches`"
    passes += ", `visualize occlusion`"
    header = header.replace("{passes}", passes)
    return "\n".join([header, *(_section(*words) for words in pages)])


def _section(*words: str) -> str:
    """Return what `--help` prints on a wide terminal, byte for byte."""
    arguments = [*words, "--help"]
    shown = CliRunner().invoke(
        cli, arguments, prog_name="cnnfeat", terminal_width=MAX_WIDTH - 2
    )
    title = " ".join(("cnnfeat", *words))
    return f"## `{title}`\n\n```text\n{shown.stdout}```\n"


def main() -> None:
    """Write the page, or exit 1 when it differs."""
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != render():
            sys.exit(f"{PAGE.name} is out of date: make docs")
    else:
        PAGE.write_text(render())


if __name__ == "__main__":
    main()
