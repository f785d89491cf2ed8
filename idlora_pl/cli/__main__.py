"""Run as `python -m idlora_pl.cli`; the same as `idlora`."""

from idlora_pl.cli import main

if __name__ == "__main__":
    main()
