"""The logical plan: frozen nodes that `DataStream` methods append to and that an engine lowers."""
