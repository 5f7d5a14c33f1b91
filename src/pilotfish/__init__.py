"""Pilotfish: a service mesh that speaks Istio's and Kubernetes' configuration languages without a cluster."""

__version__ = "0.1.0"
