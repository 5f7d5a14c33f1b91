"""The pod supervisor: PID 1 of a pod, and independent of everything that may die around it.

It is started for each pod with `python -I -S` and stays resident, so that what it imports is memory times the number of
pods: few modules of the standard library, and nothing else of ours.
"""
