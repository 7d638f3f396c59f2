"""`python -m fleek.emulator`: run the emulator."""

import argparse
from pathlib import Path

from fleek.emulator.server import LOOPBACK, run


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="fleek.emulator",
        description="An offline emulator of Replicate, OpenAI, fal and ComfyUI.",
    )
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, default=9009, help="0 chooses a free one")
    parser.add_argument("--delivery-port", type=int, help="a separate port for output files")
    parser.add_argument("--seed", type=int, default=0, help="for all random decisions")
    parser.add_argument("--ledger", type=Path, help="the file of the ledger")
    chosen = parser.parse_args()
    run(
        chosen.host,
        chosen.port,
        seed=chosen.seed,
        ledger=chosen.ledger,
        delivery_port=chosen.delivery_port,
    )


if __name__ == "__main__":
    main()
