"""What this host lacks for pods, found out by trying it where it leaves no trace: in a namespace that ends at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pilotfish.node import netns
from pilotfish.node.nft import NftError, nft_program, replace_table, run_nft

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}

_NFT_FEATURES = {
    "nat": "chain c { type nat hook output priority -100; }",
    "redir": "chain c { type nat hook output priority -100; tcp dport 1 redirect to :2; }",
    "masq": "chain c { type nat hook postrouting priority 100; ip saddr 10.0.0.1 masquerade; }",
    "reject": "chain c { type filter hook prerouting priority 0; meta l4proto tcp reject with tcp reset; }",
    "numgen": "chain c { meta mark set numgen random mod 2; }",
    "hash": "chain c { meta mark set jhash ip saddr mod 2; }",
}
"""Kernel modules nft_<name> and the smallest table body that needs each."""


@dataclass(frozen=True)
class Problem:
    """What is missing, and what the reader can do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def preflight() -> list[Problem]:
    """Everything that keeps this host from running pods, empty when nothing does. Changes nothing. Blocks.

    What can only be tried after something else works is not reported before that: rights first, then programs, then
    the kernel.
    """
    if missing := _missing_capabilities():
        return [Problem(f"no right to set up networks ({', '.join(missing)})", "run as root, for example with sudo")]
    programs = []
    if nft_program() is None:
        programs.append(Problem("the program nft is not installed", "apt-get install nftables"))
    try:
        return programs + netns.run_in_new(lambda: _kernel_problems(with_nft=not programs))
    except OSError as error:
        what = f"the kernel makes no network namespace ({error.strerror})"
        return [*programs, Problem(what, "use a kernel with CONFIG_NET_NS, and a container that may unshare(2)")]


def _missing_capabilities() -> list[str]:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    effective = int(status["CapEff"], 16)
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def _kernel_problems(*, with_nft: bool) -> list[Problem]:
    problems = []
    try:
        with IPRoute() as netlink:
            netlink.link("add", ifname="probe0", kind="veth", peer={"ifname": "probe1"})
    except NetlinkError as error:
        problems.append(Problem(f"the kernel makes no veth links ({error})", "modprobe veth"))
    if with_nft:
        try:
            run_nft(replace_table("probe", ""))
        except NftError as error:
            return [*problems, Problem(f"the kernel takes no nft rules ({_last_words(error)})", "modprobe nf_tables")]
        problems += filter(None, (_nft_problem(name, body) for name, body in _NFT_FEATURES.items()))
    return problems


def _nft_problem(name: str, body: str) -> Problem | None:
    try:
        run_nft(replace_table("probe", f"    {body}\n"))
    except NftError as error:
        return Problem(f"the kernel lacks the nft feature {name} ({_last_words(error)})", f"modprobe nft_{name}")
    return None


def _last_words(error: NftError) -> str:
    """The line of nft's that says what was wrong; the others quote the script."""
    lines = [line for line in str(error).splitlines() if "Error:" in line]
    return lines[0].partition("Error:")[2].strip() if lines else str(error)
