"""Helpers of test_replay.py that other tests use too."""

from tests.support.ticks import START_MS

HEADER = "time,instrument,price_open,price_close,volume"


BAD_LINES = [
    (b"garbage", "broken_line"),
    (b"1,2,3", "broken_line"),
    (b"%d,A,1,2,3,4" % START_MS, "broken_line"),
    (b'%d,"A,1,2,3' % START_MS, "broken_line"),
    (b"%d,Z\xfcrich,1,2,3" % START_MS, "broken_line"),
    (b"%d,A,-1,2,3" % START_MS, "price_not_positive"),
    (b"%d,A,NaN,2,3" % START_MS, "bad_number"),
    (b"%d,A,1,2,-3" % START_MS, "volume_negative"),
    (b"%d,,1,2,3" % START_MS, "no_instrument"),
    (b"%d,%s,1,2,3" % (START_MS, b"x" * 1_000_000), "bad_instrument"),
    (b"99999999999999,A,1,2,3", "bad_time"),
    (b"4102444800000,A,1,2,3", "future"),
    (b"0,A,1,2,3", "bad_time"),
]
