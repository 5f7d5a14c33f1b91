"""Reconcilers that turn resources into other resources."""
