"""What tests of failure share."""

from pathlib import Path

import pytest

from tests.fault.test_reload import put


@pytest.fixture
def one_version(tmp_path: Path) -> Path:
    """A repository with `good` in version 1."""
    put(tmp_path / "repository", 1)
    return tmp_path / "repository"
