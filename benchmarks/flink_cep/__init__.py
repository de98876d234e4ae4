"""Flink's CEP library, had from Maven Central: the reference of the tests and the peer of the benchmark."""
