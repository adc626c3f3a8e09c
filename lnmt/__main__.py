"""`python -m lnmt` is the `lnmt` command."""

from lnmt.cli import main

main()
