"""Skew and staleness, with the clock in the test's hand."""

from barmill.ingest.connection.state import Skew, Staleness, stale_after_ms

NOW_MS = 1_764_000_000_000


def test_skew_is_the_median_so_one_wrong_stamp_moves_nothing() -> None:
    skew = Skew()
    assert skew.ms is None
    for number, off_ms in enumerate([-40_010, -40_000, 3_600_000, -40_020, -40_005]):
        heard_ms = NOW_MS + number * 100
        skew.record_message_time(heard_ms + off_ms, heard_ms)
    assert skew.ms == -40_005


def test_a_date_of_whole_seconds_counts_only_until_a_message_says_more() -> None:
    skew = Skew()
    skew.record_http_date(NOW_MS + 2_000, NOW_MS)
    assert skew.ms == 2_500
    skew.record_message_time(NOW_MS + 2_130, NOW_MS)
    assert skew.ms == 2_130


def test_skew_follows_a_clock_that_is_set_right() -> None:
    skew = Skew()
    for _ in range(200):
        skew.record_message_time(NOW_MS + 5_000, NOW_MS)
    for _ in range(60):
        skew.record_message_time(NOW_MS + 10, NOW_MS)
    assert skew.ms == 10


def test_each_instrument_is_stale_by_its_own_usual_gap() -> None:
    staleness = Staleness()
    staleness.expect(["QUICK", "SLOW", "SILENT"], NOW_MS)
    for second in range(0, 1_200):
        staleness.record_tick("QUICK", NOW_MS + second * 1_000)
        if second % 60 == 0:
            staleness.record_tick("SLOW", NOW_MS + second * 1_000)
    end_ms = NOW_MS + 1_199_000
    assert staleness.stale(end_ms) == ("SILENT",)
    assert staleness.stale(int(end_ms + stale_after_ms(1_000))) == ("SILENT",)
    assert staleness.stale(int(end_ms + stale_after_ms(1_000) + 1)) == ("QUICK", "SILENT")
    assert staleness.stale(end_ms + 700_000) == ("QUICK", "SILENT", "SLOW")


def test_what_is_no_longer_wanted_is_not_stale_and_what_is_new_gets_its_time() -> None:
    staleness = Staleness()
    staleness.expect(["A", "B"], NOW_MS)
    staleness.expect(["B", "C"], NOW_MS + 50_000)
    staleness.record_tick("A", NOW_MS + 60_000)
    assert staleness.stale(NOW_MS + 70_000) == ("B",)


def test_only_a_notable_difference_is_worth_a_sentence() -> None:
    sentences = []
    for server_ms in (10_000, 11_999, 15_000, 5_000):
        skew = Skew()
        skew.record_message_time(server_ms, 10_000)
        sentences.append(skew.sentence)
    assert [Skew().sentence, *sentences] == [
        "",
        "",
        "",
        "The provider's clock is 5 s ahead.",
        "The provider's clock is 5 s behind.",
    ]
