from tests.fault.report import PAGE, rows


def test_each_fault_is_a_line_for_people() -> None:
    figures: dict[str, dict[str, str | float]] = {
        "clock_that_jumps": {"calls": 1234, "p99_ms": 1.5, "by": "an hour"}
    }
    assert rows(figures) == [["clock that jumps", "calls 1,234; p99 ms 1.5; by an hour"]]


def test_the_page_has_a_place_for_the_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- figures -->") == page.count("<!-- end of figures -->") == 1
