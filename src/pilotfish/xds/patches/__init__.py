"""What EnvoyFilters change of single resources: functions on Envoy's protobuf messages."""
