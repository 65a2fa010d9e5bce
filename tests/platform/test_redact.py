import pytest

from barmill.platform.errors import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("api_key=abc123", "api_key=[hidden]"),
        ("{'apiKey': 'q1w2e3', 'n': 1}", "{'apiKey': '[hidden]', 'n': 1}"),
        ('"password": "p w"', '"password": "[hidden] w"'),
        ("my.secret.value: s3cr3t\nnext", "my.secret.value: [hidden]\nnext"),
        ("GET /prices?token=xyz&since=5", "GET /prices?token=[hidden]&since=5"),
        ("Authorization: Bearer abcdef12345", "Authorization: [hidden]"),
        ("curl -H 'bearer abcdef12345'", "curl -H 'bearer [hidden]'"),
        ("postgres://ann:hunter2@db/x", "postgres://[hidden]@db/x"),
        ("key was Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MDEyMzQ1Ng", "key was [hidden]"),
    ],
)
def test_secrets_are_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "job 4c88ed5908a04fdfa7fc9d8ad6135383 failed",
        '  File "/srv/barmill/flink_jobs/bars.py", line 20, in main',
        "org.apache.flink.streaming.runtime.tasks.RegularOperatorChain.initializeStateAndOpenOperators(RegularOperatorChain.java:107)",
        "KeyError: 'instrument'",
        "ValueError: frame 7x is not a time frame",
    ],
)
def test_what_explains_a_failure_stays(text: str) -> None:
    assert redact(text) == text
