"""The certificate authority and SPIFFE identities."""
