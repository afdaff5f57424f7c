"""`python -m serving` is `makemore`."""

from serving.cli import main

main(prog_name="makemore")
