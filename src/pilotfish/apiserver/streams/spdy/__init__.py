"""SPDY/3.1 as Kubernetes' clients up to 1.30 speak it for exec and attach, and all of them for port-forward."""
