"""The image's containers, started as `make run-image` starts them."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.client import Client
from serving.errors import ServingError
from tests.conftest import ROOT

SCRIPT = str(ROOT / "serving" / "image.sh")
MEMORY = "300m"


def said(*command: str) -> str:
    """What a command prints; an error shows all that it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """One that runs; its server answers at `address`."""

    engine: str
    id: str
    address: str

    def run(self, *command: str) -> str:
        """What a command inside prints."""
        return said(self.engine, "exec", self.id, *command)

    def inspect(self, template: str) -> str:
        """A fact that the engine knows."""
        return said(self.engine, "inspect", "--format", template, self.id)

    @contextmanager
    def watched(self) -> Iterator["subprocess.Popen[str]"]:
        """A process that ends when the container does, having printed its exit status."""
        command = [self.engine, "wait", self.id]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


@contextmanager
def running(
    engine: str, image: str, repository: Path | None = None, **settings: str
) -> Iterator[Container]:
    """A container whose server is serving; `settings` are its environment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {"IMAGE": image, "PUBLISH": address, "REPOSITORY": str(repository or "")}
    flags = [f"--env={name}={value}" for name, value in settings.items()]
    if engine == "podman":
        flags.append("--read-only-tmpfs=false")  # which docker has not at all
    done = subprocess.run(
        [SCRIPT, "run", "--detach", f"--memory={MEMORY}", *flags],
        env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    container = Container(engine, done.stdout.strip(), address)
    try:
        wait_until_serving(container)
        yield container
    except BaseException:
        subprocess.run([engine, "logs", container.id])
        raise
    finally:
        subprocess.run([engine, "rm", "--force", container.id], capture_output=True)


def wait_until_serving(container: Container, patience: float = 60) -> None:
    """Until the server says so to the outside."""
    end = time.monotonic() + patience
    while True:
        try:
            with Client(container.address, timeout=2) as client:
                if client.health() == "SERVING":
                    return
        except ServingError:
            assert time.monotonic() < end, f"no server answers at {container.address}"
        time.sleep(0.1)
