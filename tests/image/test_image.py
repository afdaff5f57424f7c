"""The image: what is in it, and a server of it that is asked, and stopped, from outside."""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.client import Client
from tests.fault.load import Load
from tests.image.container import SCRIPT, Container, running, said
from tests.serving.graphs import model_bytes, publish
from tests.test_packaging import PROJECT

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]
IMAGE = "localhost/makemore-serving:test"
LARGEST = 350_000_000
MANY = 100_000


@pytest.fixture(scope="session")
def engine() -> str:
    """podman or docker."""
    done = subprocess.run([SCRIPT, "engine"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return done.stdout.strip()


@pytest.fixture(scope="session")
def image(engine: str) -> str:
    """The image, built from the files as they are."""
    done = subprocess.run([SCRIPT, "build"], env={**os.environ, "IMAGE": IMAGE})
    assert done.returncode == 0, (
        "it cannot be built; where no base image can be pulled: make image-base"
    )
    return IMAGE


@pytest.fixture(scope="module")
def container(engine: str, image: str) -> Iterator[Container]:
    with running(engine, image) as container:
        yield container


def test_the_image_is_small_and_labelled(engine: str, image: str) -> None:
    (about,) = json.loads(said(engine, "image", "inspect", image))
    assert about["Size"] < LARGEST
    labels = about["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == PROJECT["version"]
    assert labels["org.opencontainers.image.licenses"] == PROJECT["license"]
    assert labels["org.opencontainers.image.source"]
    assert about["Config"]["StopSignal"] == "SIGTERM"
    assert about["Config"]["User"] == "10001:10001"


def test_names_are_asked_for_from_outside(container: Container) -> None:
    with Client(container.address) as client:
        samples = client.generate("em", 10, seed=7).samples
    assert len(samples) == 10
    assert all(sample.text.startswith("em") for sample in samples)


def test_the_health_check_passes(container: Container) -> None:
    check = json.loads(container.inspect("{{json .Config.Healthcheck.Test}}"))
    assert check == ["CMD", "makemore", "health"]
    assert container.run(*check[1:]) == "SERVING"


def test_the_server_has_no_privileges(container: Container) -> None:
    facts = dict(line.split(":\t") for line in container.run("cat", "/proc/1/status").splitlines())
    assert facts["Uid"].split() == ["10001"] * 4
    assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert facts["NoNewPrivs"] == "1"
    with pytest.raises(AssertionError, match=r"(?i)read-only file system"):
        container.run("touch", "/x")


def test_there_is_no_trainer_and_no_pip_in_it(container: Container) -> None:
    program = (
        "import sys; from importlib.util import find_spec; "
        "print([m for m in ('torch', 'onnx', 'trainer', 'pip', 'setuptools') if find_spec(m)])"
    )
    assert container.run("/opt/makemore/bin/python", "-c", program) == "[]"


def test_the_engines_loops_were_compiled_for_it(container: Container) -> None:
    program = "from serving.engine import compiled; print(compiled.library() is not None)"
    assert container.run("/opt/makemore/bin/python", "-c", program) == "True"


def test_a_repository_takes_the_place_of_the_one_inside(
    engine: str, image: str, tmp_path: Path
) -> None:
    publish(tmp_path, model_bytes())
    tmp_path.chmod(0o755)  # the server is another user
    with running(engine, image, tmp_path) as container, Client(container.address) as client:
        assert [model.name for model in client.list_models()] == ["models/good@1"]


def test_a_soft_kill_under_load_loses_no_call(engine: str, image: str) -> None:
    """Calls go on to begin while it is a lame duck, and a stream that was under way comes to its end."""
    with (
        running(engine, image, MAKEMORE_SERVE_LAME_DUCK="10") as container,
        Client(container.address, timeout=100) as client,
        ThreadPoolExecutor(1) as pool,
        container.watched() as ended,
    ):
        with Load(container.address, callers=16) as load:
            load.wait_for(500)
            stream = pool.submit(lambda: sum(len(m.samples) for m in client.stream(n=MANY)))
            load.wait_for(100)
            assert not stream.done()
            said(engine, "kill", "--signal", "TERM", container.id)
            load.wait_for(100)
        assert not load.failures
        assert stream.result() == MANY
        assert ended.communicate(timeout=60)[0].strip() == "0"
