import pytest

from serving.addresses import is_loopback


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/run/makemore", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("127.0.0.1.example.org:1", False),
        ("localhost.example.org:1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_else(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
