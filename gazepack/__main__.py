"""`python -m gazepack`: the program, with this interpreter."""

from gazepack.cli.main import main

main()
