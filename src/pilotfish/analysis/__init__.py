"""What is wrong with a set of objects taken together: Istio's analyzers, as pure functions of a snapshot."""
