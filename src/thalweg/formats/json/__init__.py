"""JSON: one object per record. The default format, in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from thalweg.records import Decoder, Encoder


class JsonFormat:
    """Objects of JSON (RFC 8259, UTF-8). Numeric meaning and errors: docs/formats.md."""

    name = "json"

    def decoder(
        self,
        schema: Mapping[str, Any] | None = None,
        columns: Iterable[str] | None = None,
        *,
        required: Iterable[str] = (),
    ) -> Decoder:
        """A decoder for one stream; see `thalweg.formats.json.decoder.JsonDecoder`.

        Raises:
            ConfigurationError: a column that the schema lacks, or whose type JSON has no form for.
        """
        from thalweg.formats.json.decoder import JsonDecoder

        return JsonDecoder(schema, columns, required=required)

    def encoder(self) -> Encoder:
        """An encoder: one object per row."""
        from thalweg.formats.json.encoder import JsonEncoder

        return JsonEncoder()


def warm_up() -> bool:
    """Compiles the JSON kernels, or loads them from the cache on disk; says whether all of them came from there.

    Some 15 seconds the first time after an installation, a fraction of a second later. Without it the first decoder or
    encoder does the same.
    """
    from thalweg.formats.kernels import read_json, skeleton, times, write_json
    from thalweg.formats.kernels.compile import cache_hits

    entries = [read_json.read_records, skeleton.index_keys, times.read_time, times.read_date, write_json.write_rows]
    return all(cache_hits(each) for each in entries)
