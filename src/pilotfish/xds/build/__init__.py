"""Pure builders: a frozen spec in, an Envoy resource out. Names and shapes are Istio's (pilot/pkg/networking/core)."""
