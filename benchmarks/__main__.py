"""`python -m benchmarks [--full] [TOPIC …] [--json FILE] [--page FILE]`: measure, and print the tables.

`--page` puts tables and charts into a Markdown page: between `<!-- figures:SECTION -->` and `<!-- end -->`, with the
charts beside the page in a folder of its name.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from pathlib import Path

import msgspec

from benchmarks import machine, page, report
from benchmarks.topic import Missing, Options, log

TOPICS = (
    "walkthrough",
    "latency",
    "tuning",
    "dns",
    "lookup",
    "propagation",
    "scale",
    "size",
    "cost",
    "memory",
    "audit",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Pilotfish on this machine.")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}; all where none is given")
    parser.add_argument("--full", action="store_true", help="sizes and rounds of the page of results; takes an hour")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, figures and charts there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put tables and charts into this Markdown page")
    parser.add_argument("--seconds", type=int, help="for how long `audit` runs")
    parser.add_argument("--seed", type=int, help="what `audit` begins from, to see a difference again")
    options = parser.parse_args()
    if unknown := set(options.topics) - set(TOPICS):
        parser.error(f"no topic {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    described, chosen = machine.machine(), Options(options.full, options.seconds, options.seed)
    sections: list[report.Section] = []
    failed = False
    for topic in options.topics or TOPICS:
        began, before = time.monotonic(), machine.load()
        found: list[report.Section] = []
        try:
            for section in importlib.import_module(f"benchmarks.{topic}").run(chosen):
                found.append(msgspec.structs.replace(section, load=(before, machine.load())))
                print(report.text(found[-1]), flush=True)
        except Missing as error:
            log.error("%s: %s", topic, error)
            failed = True
        except (RuntimeError, OSError, TimeoutError):
            log.exception("%s broke off; the other topics go on", topic)
            failed = True
        log.info("%s took %.0f s", topic, time.monotonic() - began)
        sections += found
        # After each topic, so that what takes an hour is not lost in its last minute.
        if options.json:
            results = {"machine": described, "full": options.full, "sections": sections}
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
        if options.page:
            page.update(options.page, described, found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
