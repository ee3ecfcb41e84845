import os
import sys

from swe_srl import cli


def main() -> None:
    """A command; under torchrun one process of several, which share it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        cli.main()
        return
    from swe_srl.train.distributed import ranks

    with ranks(" ".join(sys.argv[1:2])):
        cli.main()


if __name__ == "__main__":
    main()
