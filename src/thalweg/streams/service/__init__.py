"""Calls to services from a stream: `stream.map_async(function)`."""
