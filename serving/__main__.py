"""The command `makemore`, also as `python -m serving`."""

import sys


def main() -> None:
    """Run the command."""
    if sys.argv[1:2] == ["serve"]:
        from serving import startup

        startup.prepare_process()  # signals may come while the rest is imported
    from serving.cli import main as command

    command(prog_name="makemore")


if __name__ == "__main__":
    main()
