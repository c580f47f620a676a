"""`python -m server` is the command `participants`."""

from server.cli import main

main()
