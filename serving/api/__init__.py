"""Between gRPC's messages and statuses and this program's values and errors; all work is done elsewhere."""
