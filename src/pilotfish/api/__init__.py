"""The resource kinds as typed data: fields, defaults, validation, printer columns and the scheme."""
