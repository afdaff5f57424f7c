import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.rows import SHARED, Rows, begun, packed, picked, put, record_type

VALUES = (5, -1, 2, 2, 2, 2, 9, 4, 2**64 - 1, 0.5, 3, 0.25, 0.125, True, False, True)


def test_rows_begin_with_what_was_packed_and_are_otherwise_empty() -> None:
    records = begun(record_type(9), [(packed(VALUES), 2)])
    for name, value in zip(SHARED.names or (), VALUES, strict=True):
        assert records[name].tolist() == [value] * 2
    others = set(records.dtype.names or ()) - set(SHARED.names or ())
    assert not any(records[name].any() for name in others)
    records["token"] = 3  # they may be written to


@given(st.lists(st.booleans(), max_size=12))
def test_rows_that_stay_are_all_there_when_others_leave(gone: list[bool]) -> None:
    rows = Rows(9, 12)
    records = rows.blank(len(gone))
    records["index"] = np.arange(len(gone))
    records["text"][:, 3] = np.arange(len(gone))
    rows.add(records)
    rows.remove(np.array(gone, np.bool_))
    stay = [index for index, leaves in enumerate(gone) if not leaves]
    assert sorted(rows.live["index"].tolist()) == stay
    assert (rows.live["text"][:, 3] == rows.live["index"]).all()
    assert rows.free == 12 - len(stay)


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_records_are_copied_as_numpy_copies_them(where: list[bool]) -> None:
    kind, rows = record_type(4), np.array(where)
    records = np.zeros(len(rows), kind)
    records["log_prob"] = np.arange(len(rows)) / 7
    records["uniform"] = np.arange(len(rows))[:, None] / 3
    copied = picked(records, rows)
    assert (copied == records[rows]).all()
    copied["text"] = 7
    assert not records["text"].any()
    put(records, rows, copied)
    assert (records["text"][rows] == 7).all()
    assert not records["text"][~rows].any()
