"""The files that every pod has of its own: /etc/resolv.conf, /etc/hosts, /etc/hostname. Pure texts (the kubelet's)."""

from __future__ import annotations

from pilotfish.api.pods import Pod

MAX_HOSTNAME = 63


def hostname(pod: Pod, node_name: str) -> str:
    """What `hostname` says inside the pod."""
    if pod.spec.host_network:
        return node_name
    return (pod.spec.hostname or pod.name)[:MAX_HOSTNAME].rstrip("-.")


def uses_node_dns(pod: Pod) -> bool:
    """Whether the pod resolves names as the node does (dnsPolicy Default, or ClusterFirst on the host's network)."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    return policy == "Default" or (policy == "ClusterFirst" and pod.spec.host_network)


def resolv_conf(pod: Pod, nameserver: str, cluster_domain: str) -> str:
    """resolv.conf of a pod that asks the mesh's DNS, with what its dnsConfig adds."""
    ours = pod.spec.dns_policy != "None"
    config = pod.spec.dns_config
    servers = [nameserver] if ours else []
    searches = [f"{pod.namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain] if ours else []
    options = {"ndots": "5"} if ours else {}
    if config is not None:
        servers += [server for server in config.nameservers if server not in servers]
        searches += [search for search in config.searches if search not in searches]
        options |= {option.name: option.value or "" for option in config.options}
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in options.items()))
    return "\n".join(lines) + "\n"


def hosts(pod: Pod, ip: str, cluster_domain: str) -> str:
    """/etc/hosts: the loopback, the pod itself, and its hostAliases."""
    name = hostname(pod, pod.spec.node_name)
    own = [name]
    if pod.spec.subdomain:
        own.insert(0, f"{name}.{pod.spec.subdomain}.{pod.namespace}.svc.{cluster_domain}")
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
        "\t".join((ip, *own)),
    ]
    lines += ["\t".join((alias.ip, *alias.hostnames)) for alias in pod.spec.host_aliases]
    return "\n".join(lines) + "\n"
