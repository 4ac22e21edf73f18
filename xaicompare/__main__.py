"""`python -m xaicompare` is the command."""

from xaicompare.cli import main

main()
