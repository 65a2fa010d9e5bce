"""The counter, but it fails in the way its spec's `poll_ms` says: 11 before it is a job, 12 as soon as it runs."""

import argparse
from pathlib import Path

from barmill.model.job_spec import BarsJobSpec
from tests.cluster.programs import counter


class Fails(counter.Count):
    def process_element(self, _value: object, _ctx: object) -> None:
        raise ValueError("the rows are wrong; api_key=sup3r-s3cret")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", type=Path, required=True)
    how = BarsJobSpec.read(parser.parse_args().spec).poll_ms
    if how == 11:
        raise ValueError("the frames are wrong; api_key=sup3r-s3cret")
    if how == 12:
        counter.Count = Fails  # type: ignore[misc]
    counter.main()


if __name__ == "__main__":
    main()
