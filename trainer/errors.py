"""Errors of the trainer that a person is meant to read.

MakemoreError (serving.errors)
 ├─ DataError      a data file: the flag that names it, what is wrong with it, and on which line
 ├─ RunError       a run's folder: not there, already there, truncated, of another kind
 └─ ExportRefused  the exported graph does not match the model, or nothing can be published
"""

from serving.errors import InvalidArgument, MakemoreError


class DataError(InvalidArgument):
    """A data file cannot be used; `field` is the setting that names it."""


class RunError(MakemoreError):
    """A run's folder or one of its files cannot be used."""


class ExportRefused(MakemoreError):
    """The export gate refused a model; nothing was published."""

    exit_status = 1
