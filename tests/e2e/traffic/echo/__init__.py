"""What pods of the traffic tests run: a server that reports what it received, and a client that takes jobs."""
