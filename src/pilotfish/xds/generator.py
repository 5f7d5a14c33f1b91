"""The configuration of every connected proxy, kept up as the mesh changes.

A proxy's configuration is put together from parts: a sidecar's from its namespace's scope and its own inbound part. A
change of the mesh goes to the parts that it touches, once, however many proxies share them; then each proxy that has
such a part is told the names of what changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.meshconfig import ROOT_NAMESPACE
from pilotfish.mesh.model import Change, Model, Touched
from pilotfish.mesh.policies import BY_DEFAULT, Exports
from pilotfish.mesh.records import WorkloadKey
from pilotfish.mesh.telemetry import Reports
from pilotfish.xds.assembly import Assembly
from pilotfish.xds.audit import Audit
from pilotfish.xds.demand import Clock, Demands, User, kept_hosts
from pilotfish.xds.entries import Resources
from pilotfish.xds.gateways import Gateways
from pilotfish.xds.grants import Grants, GrantSpec
from pilotfish.xds.groups import Groups, Shared, is_on_demand
from pilotfish.xds.idle import idle_time, report_interval
from pilotfish.xds.parts import Part, differences, merged, specs_of
from pilotfish.xds.reporting import WorkloadReports
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.source import CLUSTER, Changes, Held, ProxyNode, Resource
from pilotfish.xds.workload import workload_of

AUDIT = "PILOTFISH_AUDIT"
"""Environment variable: with "1" every change is checked against a configuration made from nothing; slow, for tests."""


class Proxy:
    """One connected proxy (a `ProxyConfig` of `xds.source`)."""

    def __init__(self, node: ProxyNode, tell: Callable[[Changes], None], generator: Generator) -> None:
        self.node = node
        self.tell = tell
        self.parts: tuple[Part, ...] = ()
        self.shared: Shared | None = None
        """What it has in common with others, for a proxy that calls hosts of the mesh."""
        self.user: User | None = None
        """A sidecar on demand."""
        self.grants = Grants()
        """What a DNS process was granted of what it asked for."""
        self._generator = generator

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        return Resources(*(part.entries(type_url) for part in self.parts))

    def asked(
        self, type_url: str, subscribed: Collection[str], unsubscribed: Collection[str], kept: Collection[str]
    ) -> None:
        if type_url == NAME_TABLE_TYPE:
            self._generator.demanded(self, subscribed, unsubscribed, kept)
        elif self.user is not None:
            if kept:
                self._generator.resumed(self.user, type_url, kept)
            if type_url == CLUSTER:
                self._generator.reached(self.user, subscribed, kept)

    def answered(self, held: Held) -> None:
        if self.user is not None:
            self._generator.demands.answered(self.user, held)

    def grant(self, resource: str) -> None:
        self.grants.put(GrantSpec(resource))
        self._tell_grants()

    def revoke(self, resource: str) -> None:
        self.grants.drop(NAME_TABLE_TYPE, resource)
        self._tell_grants()

    def _tell_grants(self) -> None:
        if changes := self.grants.take_changes():
            self.tell(changes)

    def close(self) -> None:
        self._generator.disconnect(self)


class Generator:
    """The `ConfigSource` of a mesh. Changes come in through `apply`; all of it runs on one event loop."""

    def __init__(
        self,
        model: Model,
        settings: ProxySettings | None = None,
        *,
        audit: bool | None = None,
        clock: Clock = time.monotonic,
        date: Clock = time.time,
    ) -> None:
        """`audit` overrides what the environment says (see AUDIT). Hosts are idle by `clock`, and days begin by `date`;
        both in seconds.
        """
        self.model = model
        self.settings = settings or ProxySettings(cluster_domain=model.cluster_domain)
        self._proxies: MultiMap[Part, Proxy] = MultiMap()
        self.demands = Demands(model, clock, date)
        self._assembly = Assembly(model, self.demands)
        self._at: MultiMap[WorkloadKey, Proxy] = MultiMap()
        self._reports = WorkloadReports(model)
        self._groups = Groups(model, self._reports)
        checked = os.environ.get(AUDIT) == "1" if audit is None else audit
        self._audit = Audit() if checked else None

    @property
    def gateways(self) -> Gateways:
        return self._assembly.gateways

    def connect(self, node: ProxyNode, on_change: Callable[[Changes], None]) -> Proxy:
        """The configuration of a node, by its type; one of a type that we do not know gets none."""
        proxy = Proxy(node, on_change, self)
        if is_on_demand(node):
            proxy.user = self.demands.enter(node.ip, idle_time(node))
        elif node.type == "sidecar":
            self.demands.enter_eager(node.ip)
        self._enter(proxy)
        self._assembly.look()
        return proxy

    def disconnect(self, proxy: Proxy) -> None:
        """A proxy is gone."""
        self._leave(proxy)
        self._assembly.look()
        self.demands.forget(proxy)
        if proxy.user is not None:
            self.demands.leave(proxy.user)
        elif proxy.node.type == "sidecar":
            self.demands.leave_eager(proxy.node.ip)

    def demanded(
        self, dns: Proxy, subscribed: Collection[str], unsubscribed: Collection[str], kept: Collection[str]
    ) -> None:
        """A DNS process tells of lookups, and of workloads that are gone."""
        self.demands.withdraw(dns, unsubscribed)
        self._settle(self.demands.ask(dns, subscribed, kept))

    def resumed(self, user: User, type_url: str, kept: Collection[str]) -> None:
        """A sidecar comes back with what it had before: that stays, whoever asked for it."""
        if user.selection is None:
            return
        if self.demands.resumed(user, kept_hosts(user.selection, type_url, kept)):
            self._settle([user])

    def reached(self, user: User, clusters: Collection[str], kept: Collection[str]) -> None:
        """A sidecar asks for clusters that are named by addresses that its workload did not look up."""
        if self.demands.reach(user, clusters, kept):
            self._settle([user])

    def report_interval(self, node: ProxyNode) -> float:
        """How many seconds pass between reports of what a proxy uses; 0: nobody is to report it."""
        return report_interval(idle_time(node)) if is_on_demand(node) else 0.0

    def used(self, node: ProxyNode, clusters: Collection[str]) -> None:
        """A sidecar has used these clusters (by their names in statistics) since the last report, and no others."""
        self._settle(self.demands.report(node.ip, clusters))

    def _settle(self, users: Collection[User]) -> None:
        """Tell sidecars what they got new; what is new to none of them need not be waited for."""
        self._tell(user.selection for user in users if user.selection is not None)
        for user in users:
            self.demands.settle(user)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changed objects into the model, and tell the proxies whose configuration that changes."""
        changes = list(changes)
        reported = self._reports.apply(changes)
        touched = self.model.apply(changes)
        reported = self._reports.touched(touched) or reported
        self._update(touched)
        if reported:
            self._tell_apart(self._all())
        self._check(changes)

    def _check(self, changes: Iterable[Change] = ()) -> None:
        if self._audit is not None:
            self._audit.check(self.model, changes, self._proxies)
            assert all(proxy.shared == self._shared(proxy) for proxy in self._all()), "a proxy is in a wrong group"

    def reconfigure(
        self,
        settings: ProxySettings,
        exports: Exports = BY_DEFAULT,
        reports: Reports | None = None,
        root_namespace: str = ROOT_NAMESPACE,
    ) -> None:
        """Change what shapes all proxies, who sees what does not say it, what workloads report, and where policies are
        for all.

        The parts that this touches are made anew; each proxy is told what came out different.
        """
        self._update(self.model.export_by_default(exports))
        self._update(self.model.rule_from(root_namespace))
        self._reports.configure(reports)
        if settings != self.settings:
            self.settings = settings
            self._regroup(self._all())
            self._assembly.look()
        else:
            self._tell_apart(self._all())
        self._check()

    def _all(self) -> list[Proxy]:
        return list(dict.fromkeys(proxy for part in self._proxies for proxy in self._proxies[part]))

    def _regroup(self, proxies: Collection[Proxy]) -> None:
        """Put proxies' configurations together from other parts; each is told what came out different."""
        before = {proxy: specs_of(proxy.parts) for proxy in proxies}
        for proxy in proxies:
            self._leave(proxy)
        for proxy in proxies:
            self._enter(proxy)
        for proxy in proxies:
            if changes := differences(before[proxy], specs_of(proxy.parts)):
                proxy.tell(changes)

    def _update(self, touched: Touched) -> None:
        if not touched:
            return
        updated = self._assembly.update(touched)
        self._tell(updated.parts)
        for user in (p.user for s in updated.selections for p in self._proxies[s]):
            if user is not None and user.waiting:
                self.demands.settle(user)
        self.demands.update(touched)
        if self._groups.may_change(touched, self.settings):
            self._tell_apart(proxy for proxy in self._all() if proxy.shared is not None)
        else:
            self._tell_apart([proxy for key in touched.workloads for proxy in self._at[key]])
        self._assembly.look()

    def _tell_apart(self, proxies: Iterable[Proxy]) -> None:
        """Look again at what proxies have in common with others."""
        self._regroup([proxy for proxy in proxies if proxy.shared != self._shared(proxy)])

    def _shared(self, proxy: Proxy) -> Shared | None:
        return self._groups.shared(proxy.node, self.settings)

    def _tell(self, updated: Iterable[Part]) -> None:
        """Each proxy hears once; proxies that share all that changed hear the same object."""
        told: dict[Proxy, Changes] = {}
        for part in updated:
            changes = part.take_changes()
            if not changes:
                continue
            for proxy in self._proxies[part]:
                told[proxy] = merged(told[proxy], changes) if proxy in told else changes
        for proxy, changes in told.items():
            proxy.tell(changes)

    # Who has which parts

    def _enter(self, proxy: Proxy) -> None:
        proxy.shared = self._shared(proxy)
        if proxy.shared is not None:
            self._at.add(workload_of(proxy.node), proxy)
        proxy.parts = self._assembly.parts_of(proxy.node, proxy.shared, proxy.user, proxy.grants, self.settings)
        for part in proxy.parts:
            self._proxies.add(part, proxy)

    def _leave(self, proxy: Proxy) -> None:
        """What no proxy has any more is forgotten."""
        self._at.remove(workload_of(proxy.node), proxy)
        proxy.shared = None
        for part in proxy.parts:
            self._proxies.remove(part, proxy)
            if not self._proxies.count(part):
                self._assembly.forget(part)
        proxy.parts = ()
