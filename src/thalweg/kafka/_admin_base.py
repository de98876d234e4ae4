"""What the parts of `KafkaAdmin` share: the client, answers in time, and errors that say what to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any, TypeVar

from thalweg.errors import ConnectorError
from thalweg.kafka._produce_api import lets_not_in
from thalweg.kafka._retry import PASSING
from thalweg.kafka.security import client_settings
from thalweg.kafka.tokens import OAUTH, Tokens

if TYPE_CHECKING:
    from thalweg.kafka.security import KafkaSecurity

logger = logging.getLogger("thalweg.kafka")

_T = TypeVar("_T")
_SLICE = 0.25
"""Seconds: in between, refused credentials are noticed."""


class AdminBase:
    """Args: see `KafkaAdmin`."""

    def __init__(
        self,
        brokers: str | Sequence[str],
        *,
        timeout: float = 10.0,
        security: KafkaSecurity | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        from confluent_kafka.admin import AdminClient

        self._settings = client_settings(brokers, security, settings)
        config = {"client.id": "thalweg-admin", **self._settings}
        self.brokers = str(config["bootstrap.servers"])
        self.timeout = timeout
        self._security = security
        self._refusal: str | None = None
        self._check_token()
        self._client = AdminClient({**config, "error_cb": self._on_error}, logger=logger)

    def close(self) -> None:
        """Lets go of the client; its connections close with it."""
        self._client = None

    def _check_token(self) -> None:
        """The client would wait ten seconds for a token, and not say why there is none."""
        tokens = self._settings.get(OAUTH)
        if isinstance(tokens, Tokens):
            try:
                tokens()
            except ConnectorError as error:
                raise ConnectorError(
                    f"the Kafka cluster at {self.brokers} does not let this client in: {error}"
                ) from error

    def _on_error(self, error: Any) -> None:
        if lets_not_in(error.code(), error.str()):
            self._refusal = error.str()

    def _metadata(self) -> Any:
        """The metadata of all topics: naming one may create it."""
        self._refusal = None
        deadline = time.monotonic() + self.timeout
        while True:
            remaining = deadline - time.monotonic()
            try:
                return self._client.list_topics(None, timeout=max(0.01, min(1.0, remaining)))
            except Exception as error:
                self._client.poll(0)
                self._raise_refused(error)
                if time.monotonic() >= deadline:
                    raise self._silent(error) from error

    def _call(self, start: Callable[[], _T]) -> _T:
        """Begins a request.

        Raises:
            ConnectorError: an argument that the client itself does not take.
        """
        self._refusal = None
        try:
            return start()
        except Exception as error:
            raise ConnectorError(f"the request to {self.brokers} can't be made: {error}") from error

    def _result(self, future: Future[_T], what: str) -> _T:
        """The answer to a request; `what` was asked for stands in the error."""
        try:
            return self._wait(future)
        except ConnectorError:
            raise
        except Exception as error:
            raise ConnectorError(f"{what}: {self.brokers} says: {error}") from error

    def _read(self, ask: Callable[[float], Future[_T]], what: str) -> _T:
        """The answer to a question that changes nothing: asked in short tries, again while the cluster settles.

        librdkafka waits for a controller or coordinator that has died, or is just being made, until a request's end.
        """
        deadline = time.monotonic() + self.timeout
        once = max(1.0, self.timeout / 4)
        while True:
            future = self._call(lambda: ask(once))
            try:
                return self._wait(future)
            except ConnectorError:
                raise
            except Exception as error:
                if error_code(error) not in PASSING or time.monotonic() > deadline:
                    raise ConnectorError(f"{what}: {self.brokers} says: {error}") from error
                self._metadata()  # learns of another controller
                time.sleep(0.05)

    def _wait(self, future: Future[_T]) -> _T:
        deadline = time.monotonic() + self.timeout + 5  # the request has its own limit; this one is for a lost answer
        while True:
            try:
                return future.result(_SLICE)
            except FutureTimeout as error:
                self._raise_refused(error)
                if future.done() or time.monotonic() > deadline:
                    raise

    def _raise_refused(self, error: Exception) -> None:
        if self._refusal is not None:
            raise ConnectorError(
                f"the Kafka cluster at {self.brokers} does not let this client in: {self._refusal}. Check its "
                "credentials and certificates"
            ) from error

    def _silent(self, error: Exception) -> ConnectorError:
        return ConnectorError(
            f"the Kafka cluster at {self.brokers} does not answer ({error}). Check the address, that the broker is "
            "up, and that its advertised listeners can be reached from here (and whether it wants TLS or SASL)"
        )


def error_code(error: Exception) -> int | None:
    """Kafka's code of a `KafkaException`."""
    inner: Any = error.args[0] if error.args else None
    return int(inner.code()) if hasattr(inner, "code") else None
