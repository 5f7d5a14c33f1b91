#!/bin/sh
# Set up what Pilotfish needs: Debian packages that are missing, and a virtual environment with the locked Python packages.
#   scripts/setup.sh run   what the product needs
#   scripts/setup.sh dev   also what the tests and linters need
set -eu
cd "$(dirname "$0")/.."
wanted=${1:-run}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "setup: '$*' needs root: run it yourself, or install sudo" >&2
        exit 1
    fi
}

have() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

missing=""
have nft || missing="$missing nftables"
have nsenter || missing="$missing util-linux"
have curl || missing="$missing curl"
have kubectl || missing="$missing kubernetes-client"
if [ "$wanted" = dev ]; then # the tests look at the host with these
    have ip || missing="$missing iproute2"
    have pkill || missing="$missing procps"
fi
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: please install:$missing" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

stamp=.venv/.installed-$wanted
if [ ! -e "$stamp" ] || [ "requirements/$wanted.txt" -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    echo "setup: preparing .venv"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "requirements/$wanted.txt"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    touch "$stamp"
fi
# Every command and process of the mesh would compile its modules anew where Python is told to leave no bytecode behind.
.venv/bin/python -m compileall -q src
