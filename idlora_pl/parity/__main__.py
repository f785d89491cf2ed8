"""Run as `python -m idlora_pl.parity DIR`; the same as `idlora parity DIR`."""

import sys

from idlora_pl.parity.command import main

if __name__ == "__main__":
    main(sys.argv[1:])
