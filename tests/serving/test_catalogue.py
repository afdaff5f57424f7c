from pathlib import Path
from typing import Any

import pytest

from serving.catalogue import TOLD, Catalogue
from serving.errors import NotFound
from serving.repository import Model

SESSION: Any = None


def catalogue(*names: str, default: str = "") -> Catalogue:
    return Catalogue.of([Model(Path(), name, 1, "", SESSION) for name in names], {}, default)


@pytest.mark.parametrize(
    ("names", "default", "is_ambiguous"),
    [(("a",), "", False), (("a", "b"), "", True), (("a", "b"), "a", False), ((), "", False)],
)
def test_an_empty_name_is_ambiguous_where_it_could_mean_several(
    names: tuple[str, ...], default: str, is_ambiguous: bool
) -> None:
    assert catalogue(*names, default=default).is_ambiguous == is_ambiguous


def test_an_error_has_no_more_names_than_a_message_can_hold() -> None:
    many = catalogue(*(f"model-{number:04}" for number in range(3000)))
    with pytest.raises(NotFound) as caught:
        many.find("other")
    assert str(caught.value).count("model-") == TOLD
    assert str(caught.value).endswith(f"and {3000 - TOLD:,} more")
