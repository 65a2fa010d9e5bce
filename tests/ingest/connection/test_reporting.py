"""What is reported of a connection, and when."""

from barmill.ingest.connection.state import ConnectionState, Phase, StateReporter


def test_a_gap_is_reported_at_once_and_what_is_no_news_after_a_second() -> None:
    reported: list[ConnectionState] = []
    now_ms = 1_000
    reporting = StateReporter(reported.append, lambda: now_ms)
    # The sentence about a second gap may be that of the first.
    for gaps in (0, 1, 1, 2, 2):
        reporting.report_state(ConnectionState(Phase.RECEIVING, "Answers come.", now_ms, gaps=gaps))
    now_ms += 1_000
    reporting.report_state(ConnectionState(Phase.RECEIVING, "Answers come.", now_ms, gaps=2))
    assert [(state.gaps, state.since_ms) for state in reported] == [(0, 1_000), (1, 1_000), (2, 1_000), (2, 1_000)]
