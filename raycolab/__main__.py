"""`python -m raycolab` is `raycolab`."""

from raycolab.cli import main

__all__: list[str] = []

main()
