"""The trainer's sub-commands: each module has one, named `command`."""
