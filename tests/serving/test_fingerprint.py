import numpy as np

from serving.fingerprint import fingerprint, fingerprints


def test_fingerprints_are_what_the_rule_says() -> None:
    # printf %s emma | b2sum -l 64: the digest's bytes, read little-endian
    assert fingerprint("emma").to_bytes(8, "little").hex() == "58d3dfa3a5f7b71f"


def test_a_set_of_fingerprints_is_sorted_distinct_and_little_endian() -> None:
    found = fingerprints(["emma", "olivia", "emma"])
    assert found.dtype == np.dtype("<u8")
    assert found.tolist() == sorted({fingerprint("emma"), fingerprint("olivia")})
