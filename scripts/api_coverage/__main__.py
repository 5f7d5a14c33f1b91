"""`python -m scripts.api_coverage`: write docs/coverage.md; with `--check`, fail when it is not what it would be."""

from __future__ import annotations

import contextlib
import difflib
import io
import sys

from scripts.api_coverage.page import page
from scripts.api_coverage.usage import ROOT, collect

PAGE = ROOT / "docs/coverage.md"


def main(argv: list[str]) -> int:
    output, old = io.StringIO(), PAGE.read_text() if PAGE.exists() else ""
    try:
        with contextlib.redirect_stdout(output):
            text = page(collect(), old)
    except RuntimeError as error:
        sys.stderr.write(f"{output.getvalue()}\n{error}\n")
        return 1
    if argv != ["--check"]:
        PAGE.write_text(text)
        return 0
    if changes := list(
        difflib.unified_diff(old.splitlines(), text.splitlines(), "docs/coverage.md", "as it should be", n=0)
    ):
        sys.stderr.write("\n".join([*changes[:40], "docs/coverage.md is out of date: make coverage-page", ""]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
