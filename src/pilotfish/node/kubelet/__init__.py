"""The node agent's own API (Kubernetes: the kubelet's): logs, exec, attach and port-forward, for the API server."""
