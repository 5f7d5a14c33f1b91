"""From the model to Envoy: pure builders to protobuf, and the ADS server."""
