"""`python -m cnnfeat` is the same program as `cnnfeat`."""

from cnnfeat.cli.main import main

if __name__ == "__main__":
    main()
