"""The commands: each calls one thing in one room."""
