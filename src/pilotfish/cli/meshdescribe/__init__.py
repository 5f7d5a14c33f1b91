"""`pilotfish x describe`: what of the mesh's configuration concerns a pod or a service (istioctl/pkg/describe)."""
