"""Runs the service from a configuration file, with the stream that feeds it where it names one."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from thalweg.alerts import files
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.service.access import ApiKey
from thalweg.alerts.store import check_url
from thalweg.errors import ConfigurationError, MissingExtraError

logger = logging.getLogger(__name__)


def serve(path: Path | str, *, host: str = "127.0.0.1", port: int = 8093) -> None:
    """Serves until it is told to stop (SIGINT, SIGTERM); then finishes what it is doing.

    The section `source` (`broker`, `topic`, and perhaps `timestamp`, `key`, `name`) makes it read a topic and evaluate
    the rules on its events, exactly once, as a job of that name.

    Raises:
        ConfigurationError: what is wrong with the file.
        MissingExtraError: Starlette or Uvicorn is not installed.
    """
    try:
        import uvicorn

        from thalweg.alerts.service.app import build
    except ImportError as error:
        raise MissingExtraError("the alert service needs: pip install 'thalweg[alerts]'") from error
    config = files.read(path)
    keys = _keys(config, str(path))
    manager = files.load(path)
    try:
        app = build(manager, keys, slack_signing_secret=config.get("slack_signing_secret"))
        watch = _Reload(manager, Path(path), config)
        source = _source(manager, config.get("source"), str(path))
        server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False))
        watch.start()
        if source is not None:
            source.start(lambda: setattr(server, "should_exit", True))
        logger.info("alerts: serving on http://%s:%d", host, port)
        if threading.current_thread() is threading.main_thread():
            # Uvicorn sends itself again what it was stopped by: that must not end the process before all is put away.
            signal.signal(signal.SIGTERM, _leave)
        try:
            server.run()
        finally:
            watch.stop()
            if source is not None:
                source.stop()
    finally:
        manager.close()


def check(path: Path | str) -> AlertManager:
    """Checks a whole configuration without running it; the manager has a store in memory.

    Raises:
        ConfigurationError: what is wrong, and where.
    """
    config = files.read(path)
    manager = AlertManager("sqlite://", deliver=False)
    try:
        check_url(str(config.get("store", files.DEFAULT_STORE)))
        files.apply(manager, config, str(path))
        _keys(config, str(path))
        _source_settings(config.get("source"), str(path))
    except BaseException:
        manager.close(0)
        raise
    return manager


def _keys(config: Mapping[str, Any], where: str) -> list[ApiKey]:
    return [ApiKey.of(given, f"{where}: keys: {n + 1}") for n, given in enumerate(config.get("keys") or ())]


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


class _Reload:
    """Looks at the file's time every second; rules that are wrong are refused, and the old ones stay."""

    def __init__(self, manager: AlertManager, path: Path, config: Mapping[str, Any]) -> None:
        self._manager, self._path, self._config = manager, path, config
        self._seen = path.stat().st_mtime_ns
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="thalweg-alerts-reload", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(1):
            try:
                time = self._path.stat().st_mtime_ns
                if time == self._seen:
                    continue
                self._seen = time
                config = files.read(self._path)
                rules = files.rules_of(config, str(self._path))
                self._manager.replace_rules(rules)
                logger.info("alerts: %d rules are in force now", len(rules))
                self._say_what_waits(config)
            except (ConfigurationError, OSError) as error:
                logger.error("alerts: the rules stay as they are: %s", error)

    def _say_what_waits(self, config: Mapping[str, Any]) -> None:
        """Only rules are taken up while the service runs."""
        names = [name for name in files.SECTIONS if name != "rules" and config.get(name) != self._config.get(name)]
        if names:
            logger.warning("alerts: what has changed in %s counts after a restart", ", ".join(names))


class _Source:
    """The job that feeds the rules from a topic, in a thread of its own."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def start(self, failed: Any) -> None:
        def run() -> None:
            try:
                self._app.run()
            except BaseException as error:
                self.error = error
                logger.exception("alerts: the stream that feeds the rules failed; ending the service")
                failed()

        self._thread = threading.Thread(target=run, name="thalweg-alerts-source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._app.stop()
        if self._thread is not None:
            self._thread.join(30)
        if self.error is not None:
            raise self.error


def _source_settings(given: Any, where: str) -> Mapping[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given.get("broker") or not given.get("topic"):
        raise ConfigurationError(f"{where}: source: it needs `broker` and `topic`")
    if unknown := set(given) - {"broker", "topic", "timestamp", "key", "name", "watermark"}:
        raise ConfigurationError(f"{where}: source: unknown setting {sorted(unknown)[0]!r}")
    return given


def _source(manager: AlertManager, config: Any, where: str) -> _Source | None:
    given = _source_settings(config, where)
    if given is None:
        return None
    from thalweg.streams import App

    app = App(given.get("name", "thalweg-alerts"), broker=given["broker"])
    settings = {name: given[name] for name in ("timestamp", "watermark") if name in given}
    events = app.stream(given["topic"], **settings)
    if given.get("key"):
        events = events.key_by(given["key"])
    events.alert(manager)
    return _Source(app)
