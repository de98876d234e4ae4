"""OAUTHBEARER tokens for a librdkafka handle of ours: served on its own thread, so that nobody must poll."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping
from ctypes import CDLL, CFUNCTYPE, c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import lru_cache
from typing import Any

from thalweg.kafka._librdkafka import Functions, load
from thalweg.kafka.tokens import OAUTH, Tokens

logger = logging.getLogger("thalweg.kafka")

_Refresh = CFUNCTYPE(None, c_void_p, c_char_p, c_void_p)
_FUNCTIONS: Functions = {
    "rd_kafka_conf_set_oauthbearer_token_refresh_cb": (None, (c_void_p, _Refresh)),
    "rd_kafka_conf_enable_sasl_queue": (None, (c_void_p, c_int)),
    "rd_kafka_sasl_background_callbacks_enable": (c_void_p, (c_void_p,)),
    "rd_kafka_oauthbearer_set_token": (
        c_int,
        (c_void_p, c_char_p, c_int64, c_char_p, c_void_p, c_size_t, c_char_p, c_size_t),
    ),
    "rd_kafka_oauthbearer_set_token_failure": (c_int, (c_void_p, c_char_p)),
}
_PRINCIPAL = b"thalweg"
"""librdkafka wants a name; the broker takes it from the token."""
_callbacks: dict[int, Any] = {}
"""By handle: librdkafka calls them until it is destroyed."""


@lru_cache(maxsize=1)
def _api() -> CDLL:
    return load(_FUNCTIONS)


def split(config: Mapping[str, Any]) -> tuple[dict[str, str], Tokens | None]:
    """Settings that librdkafka takes as text, and where tokens come from."""
    return {name: value for name, value in config.items() if name != OAUTH}, config.get(OAUTH)


def prepare(conf: int, tokens: Tokens | None) -> Any:
    """Makes a configuration ask for tokens; what is returned goes to `begin`."""
    if tokens is None:
        return None

    def refresh(handle: int, config: bytes | None, opaque: int | None) -> None:
        try:
            _give(handle, tokens)
        except BaseException:  # librdkafka's thread has nobody who would hear of it
            logger.exception("no OAuth token was handed over")

    callback = _Refresh(refresh)
    _api().rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, callback)
    _api().rd_kafka_conf_enable_sasl_queue(conf, 1)
    return callback


def begin(handle: int, callback: Any) -> None:
    """Serves a handle's questions from now on."""
    from thalweg.kafka._produce_api import take_error

    if callback is None:
        return
    _callbacks[handle] = callback
    problem = take_error(_api().rd_kafka_sasl_background_callbacks_enable(handle))
    if problem is not None:
        logger.error("OAuth tokens can't be served: %s", problem)


def end(handle: int) -> None:
    """The handle is destroyed."""
    _callbacks.pop(handle, None)


def _give(handle: int, tokens: Tokens) -> None:
    lib = _api()
    try:
        token, expiry = tokens()
    except Exception as error:
        lib.rd_kafka_oauthbearer_set_token_failure(handle, str(error).encode())
        return
    said = ctypes.create_string_buffer(512)
    code = lib.rd_kafka_oauthbearer_set_token(
        handle, token.encode(), int(expiry * 1000), _PRINCIPAL, None, 0, said, len(said)
    )
    if code:
        lib.rd_kafka_oauthbearer_set_token_failure(handle, said.value)
