"""Logs, exec, attach and port-forward: the streams between kubectl and a pod, by way of the pod's node."""
