"""What the bench says of Kafka: its arithmetic, and that it measures the real thing."""

import json
from pathlib import Path

import pytest

from benchmarks.kafka import Progress, SentBatch, batch_delays, rate
from benchmarks.report import as_text
from benchmarks.ticks import tick_file
from benchmarks.usage import measure, python


def test_a_rate_is_measured_from_the_first_committed_bars_to_the_last() -> None:
    history = [Progress(10_000, 101, 100), Progress(11_000, 301, 300), Progress(12_000, 1_101, 1_100)]
    assert rate(history, {"taskmanager": 0.001}) == {"ticks_per_s": 500, "taskmanager_cpu_s_per_million_ticks": 1.0}


@pytest.mark.parametrize("later", [[Progress(11_000, 1_001, 1_000)], []])
def test_less_than_half_of_the_ticks_gives_no_rate(later: list[Progress]) -> None:
    assert rate([Progress(10_000, 601, 600), *later], {"taskmanager": 0.001}) == {"ticks_per_s": None}


def test_a_batch_counts_until_all_of_it_was_seen() -> None:
    sent = [SentBatch(0, 11), SentBatch(100, 21), SentBatch(200, 31)]
    history = [Progress(50, 5, 4), Progress(500, 21, 20), Progress(900, 25, 24), Progress(1_000, 31, 30)]
    assert batch_delays(sent, history)["sent_to_committed_ms"].to_list() == [500, 400, 800]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["as_fast_as_it_goes", "at_a_rate"])
def test_figures_come_from_a_real_broker_and_a_real_flink(tmp_path: Path, how: str) -> None:
    options = ("--home", str(tmp_path / "home"), "--parallelism", "2")
    if how == "at_a_rate":
        taken = measure(python("benchmarks.kafka", "delay", "1000", "2", *options, "--patience", "60"))
        found = json.loads(taken.output)
        assert found["ticks"] == 2_100  # those of two seconds, and of the tenth in which the job was waited for
        delays = found["delay_ms"]["sent_to_committed_ms"]
        assert 0 < delays["p50"] <= delays["p95"] <= delays["max"]
        return
    ticks = tick_file(tmp_path, 20_000, 10)
    found = json.loads(measure(python("benchmarks.kafka", "rate", str(ticks), *options, "--cores", "1")).output)
    assert found["ticks"] == 20_000
    assert found["intake_ticks_per_s"] > 0
    assert found["shipped_ticks_per_s"] > 0
    assert 1 < found["topic_bytes_per_tick"] < 1_000


def test_the_report_has_every_rate_and_every_delay() -> None:
    rates = {"parallelism": 2, "cores": 1, "ticks": 1_000, "ticks_per_s": 5_000, "other_programs_share_of_all_cores": 0}
    delay = {
        **{"share_of_highest_rate": 0.5, "ticks_per_s": 2_500, "busy_cores": 1.5},
        "delay_ms": {"sent_to_committed_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0}},
    }
    lost = {"share_of_highest_rate": 0.8, "ticks_per_s": 4_000, "not_measured": "This machine cannot."}
    part = {"instruments": 100, "rates": [rates], "times_one_core": None, "delays": [delay, lost]}
    machine = {
        **{"cores": 2, "cpu_model": "x", "memory_gb": 1, "system": "y", "python": "3"},
        "load_average_1min_at_start": 0,
    }
    text = as_text({"machine": machine, "kafka": part})
    for expected in ("2, 1", "5,000", "at 50%", "2,500", "4,000 ticks/s could not be measured: This machine cannot."):
        assert expected in text
