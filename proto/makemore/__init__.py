"""Generated stubs of the protos beside them; import path and proto path are the same."""
