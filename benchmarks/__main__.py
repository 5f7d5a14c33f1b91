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

TOPICS = ("walkthrough", "latency", "dns", "propagation", "scale", "cost", "memory")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Pilotfish on this machine.")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}; all where none is given")
    parser.add_argument("--full", action="store_true", help="sizes and rounds of the page of results; takes an hour")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, figures and charts there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put tables and charts into this Markdown page")
    options = parser.parse_args()
    if unknown := set(options.topics) - set(TOPICS):
        parser.error(f"no topic {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    described = machine.machine()
    sections: list[report.Section] = []
    failed = False
    for topic in options.topics or TOPICS:
        began, before = time.monotonic(), machine.load()
        try:
            for found in importlib.import_module(f"benchmarks.{topic}").run(Options(options.full)):
                section = msgspec.structs.replace(found, load=(before, machine.load()))
                sections.append(section)
                print(report.text(section), flush=True)
        except Missing as error:
            log.error("%s: %s", topic, error)
            failed = True
        log.info("%s took %.0f s", topic, time.monotonic() - began)
    if options.json:
        found = {"machine": described, "full": options.full, "sections": sections}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    if options.page:
        page.update(options.page, described, sections)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
