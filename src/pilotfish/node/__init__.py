"""Everything that touches the host: namespaces, capture, DNS, Envoy, container processes, logs."""
