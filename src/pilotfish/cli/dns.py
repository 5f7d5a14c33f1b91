"""`pilotfish dns`: the DNS process of a node.

It imports nothing but what answers queries: until it is there again after its death, no pod of the node has names.
"""

from __future__ import annotations

import asyncio

from pilotfish.cli.process import terminated
from pilotfish.home import Home
from pilotfish.node.dns import process


async def dns(home: Home) -> None:
    """Run the DNS process of a home until SIGTERM."""
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(process.run(home, home.settings()))
        await terminated()
        serving.cancel()
