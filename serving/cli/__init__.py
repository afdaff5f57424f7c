"""The command `makemore`: a group that imports a sub-command only when it is used.

Knows the trainer's commands by name alone, so that a server installs without it.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from serving.cli.ending import ending, print_anything, say_error, with_flags
from serving.cli.types import TEXT
from serving.errors import MakemoreError


@dataclass(frozen=True)
class Target:
    """Where a sub-command is, the extra that it needs, and its line in the help."""

    module: str
    extra: str
    help: str


COMMANDS = {
    "models": Target("trainer.cli.models", "train", "List the architectures."),
    "inspect": Target("trainer.cli.inspect", "train", "Say what is in a text file."),
    "train": Target("trainer.cli.train", "train", "Train a model on a text file."),
    "lr-find": Target("trainer.cli.lr_find", "train", "Sweep the learning rate."),
    "diagnose": Target("trainer.cli.diagnose", "train", "Look into a trained network."),
    "compare": Target("trainer.cli.compare", "train", "Print the leaderboard of runs."),
    "sample": Target("trainer.cli.sample", "train", "Print samples from a run."),
    "evaluate": Target("trainer.cli.evaluate", "train", "Score held-out lines with a run."),
    "gradients": Target(
        "trainer.cli.gradients", "train", "Backpropagate by hand, beside autograd."
    ),
    "export": Target("trainer.cli.export", "train", "Publish a run as a step graph."),
    "serve": Target("serving.cli.serve", "serve", "Serve published models over gRPC."),
    "alias": Target("serving.cli.alias", "serve", "Give a version of a model another name."),
    "generate": Target("serving.cli.generate", "serve", "Ask a running server for strings."),
    "score": Target("serving.cli.score", "serve", "Tell how likely the lines of a file are."),
    "next": Target("serving.cli.next", "serve", "Tell which characters may come next."),
    "top": Target("serving.cli.top", "serve", "Print the most likely strings."),
    "status": Target("serving.cli.status", "status", "Show a running server at a glance."),
    "health": Target("serving.cli.health", "serve", "Ask whether a server is serving."),
    "demo": Target(
        "trainer.cli.demo", "train", "Train, export, serve and ask, in a minute or two."
    ),
}


def end_on_sigterm() -> None:
    """Let SIGTERM end a container that still starts: to process 1 it means nothing without a handler."""
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))


class LazyGroup(click.Group):
    """A group of COMMANDS; errors that are meant for people end it with one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a sub-command."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        try:
            command: click.Command = import_module(target.module).command
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"'{cmd_name}' needs the package {error.name}: "
                f"pip install 'makemore[{target.extra}]'"
            ) from error
        for parameter in command.params:
            if parameter.type is click.STRING:
                parameter.type = TEXT
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of sub-commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, target.help) for name, target in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a sub-command."""
        end_on_sigterm()
        try:
            return super().invoke(ctx)
        except MakemoreError as error:
            for handler in logging.getLogger().handlers:  # whose lines come before the last
                handler.flush()
            command = ctx.invoked_subcommand and self.get_command(ctx, ctx.invoked_subcommand)
            say_error(with_flags(error, command or None))
            ctx.exit(error.exit_status)

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Parse the command line and run; ends the process unless `standalone_mode` is off."""
        print_anything()
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        with ending():
            status = run(*args, standalone_mode=False, **extra)
        sys.exit(status if isinstance(status, int) else 0)


SETTINGS = {"auto_envvar_prefix": "MAKEMORE", "help_option_names": ["-h", "--help"]}


@click.group(cls=LazyGroup, context_settings=SETTINGS)
@click.version_option(version("makemore"))
def main() -> None:
    """Train character-level models on lines of text, and serve them over gRPC.

    Every flag can be given as an environment variable: --run of `makemore train` as
    MAKEMORE_TRAIN_RUN, and so on.
    """
