"""`python -m pilotfish` is the same as `pilotfish`."""

from pilotfish.cli.main import main

main()
