"""`pilotfish proxy-config`: what an Envoy has, as istioctl shows it."""
