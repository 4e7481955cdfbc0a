"""The program: `cnnfeat` and `python -m cnnfeat`.

Signals are taken before the rest is imported, so that none ends in a traceback.
"""

from cnnfeat.cli import signals, streams


def main() -> None:
    """Run the command line and end the process."""
    streams.keep()
    with signals.watched():
        from cnnfeat.cli.main import main as run_and_leave  # after the signals

        run_and_leave()


if __name__ == "__main__":
    main()
