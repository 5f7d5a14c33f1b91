"""List/watch and writes against any Kubernetes API, and the informer cache."""
