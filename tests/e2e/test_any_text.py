"""Text that is not a-z: trained, exported and served, each script from a small sample."""

import unicodedata
from itertools import product
from pathlib import Path

import pytest

from serving.client import Client
from serving.config import ServerConfig
from serving.errors import InvalidArgument
from serving.testing import running
from tests.conftest import QUICK
from trainer.data.dataset import DataConfig
from trainer.export.export import export
from trainer.models import MODELS
from trainer.train import new_run, train

FIRST = [
    "The old mill",
    "A green boat",
    "One small bird",
    "My sister's cat",
    "That half-built house",
]
THEN = ["stood by the river", "waits near the harbour", "sang over the roofs at noon"]
LAST = ["until it rained.", "and nobody knew why.", "as it had for forty years."]

TEXTS = {
    "cyrillic": [
        a + b for a in ["Анна", "Мария", "Олег", "Иван", "Пётр"] for b in ["", "ов", "ский"]
    ],
    "hebrew": [a + b for a in ["שלום", "דוד", "רות", "נעם", "אור"] for b in ["", "י", "ית"]],
    "japanese": [
        a + b for a in ["山", "川", "田", "高橋", "佐藤"] for b in ["子", "太郎", "花さん"]
    ],
    "decomposed": [
        unicodedata.normalize("NFD", a + b) for a in ["José", "Zoë", "Åsa"] for b in "éüñà"
    ],
    "words": [
        f"{a}{b}{c}"
        for a in ["well", "o'", "jean"]
        for b in ["-", " ", "-mc"]
        for c in ["known", "neil"]
    ],
    "sentences": [" ".join(parts) for parts in product(FIRST, THEN, LAST)],
}


CASES = [(text, "gru") for text in TEXTS] + [
    ("sentences", "cnn"),
    ("hebrew", "cnn"),
    ("sentences", "transformer-modern"),
    ("decomposed", "transformer-modern"),
]
"""Each text once, and architectures of each kind on the longest and on one that is not of plain letters."""


@pytest.mark.parametrize(("text", "name"), CASES)
def test_any_text_goes_the_whole_way(tmp_path: Path, text: str, name: str) -> None:
    assert name in MODELS
    lines = TEXTS[text]
    data = tmp_path / "data.txt"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    knobs = {"gru": "hidden", "cnn": "hidden", "transformer-modern": "embedding"}
    flags = {**QUICK, "threads": 1, "batch_size": 16}
    run, dataset = new_run(tmp_path / "run", name, DataConfig(data), {knobs[name]: 16}, flags)
    train(run, dataset, resume=False, is_terminal=False)
    export(run, "any", tmp_path / "models")
    config = ServerConfig(tmp_path / "models", "127.0.0.1:0")
    with running(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        prefix = lines[0][:3]
        response = client.generate(prefix, 20, seed=1)
        alphabet = set(client.get_model().alphabet)
        with pytest.raises(InvalidArgument, match="position 0"):
            client.generate("\U0001f600")
    assert alphabet == set(unicodedata.normalize("NFC", "".join(lines)))
    for sample in response.samples:
        assert sample.text.startswith(unicodedata.normalize("NFC", prefix))
        assert set(sample.text) <= alphabet
        assert len(sample.text) <= dataset.max_length


def test_the_sentences_are_as_long_as_they_are_said_to_be() -> None:
    assert all(40 <= len(line) <= 100 for line in TEXTS["sentences"])
