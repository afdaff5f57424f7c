import shlex

from tests.conftest import ROOT

TEXT = (ROOT / "serving" / "Containerfile").read_text(encoding="utf-8")
IGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
KEPT = [line.removeprefix("!") for line in IGNORE if line.startswith("!")]


def is_kept(source: str) -> bool:
    """Whether a file or a part of a folder is there when the image is built."""
    return any(
        f"{one}/".startswith(f"{other}/")
        for kept in KEPT
        for one, other in ((source, kept), (kept, source))
    )


def test_what_the_image_is_made_from_is_there_and_not_ignored() -> None:
    lines = TEXT.replace("\\\n", "").replace("${VARIANT}", "cpu").splitlines()
    copies = [shlex.split(line)[1:-1] for line in lines if line.startswith("COPY ")]
    sources = [name for names in copies if not names[0].startswith("--from") for name in names]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_kept(source), source


def test_the_loops_are_compiled_for_every_processor_of_a_kind() -> None:
    """ziglang takes this very one otherwise, and a server elsewhere would be killed."""
    assert "ziglang cc -mcpu=baseline" in TEXT
