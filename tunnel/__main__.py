"""`python -m tunnel`."""

from tunnel.cli import main

__all__: list[str] = []

raise SystemExit(main())
