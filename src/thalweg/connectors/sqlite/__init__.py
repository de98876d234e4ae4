"""The embedded log: topics, offsets and state of a job in one SQLite file."""
