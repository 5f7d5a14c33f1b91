"""The model of the mesh, built from resources: pure, with no I/O, no clock and no Envoy types."""
