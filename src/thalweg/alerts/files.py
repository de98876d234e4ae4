"""Alerting set up from a YAML file: channels, rules, routes, schedules and what keeps noise away.

Everything is checked before anything runs; an error names the place in the file. `${NAME}` in a value is taken from the
environment, so that secrets need not stand in the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from thalweg.alerts import channels
from thalweg.alerts.escalation import EscalationLevel, EscalationPolicy
from thalweg.alerts.history import PostgresHistory
from thalweg.alerts.ical import from_ical
from thalweg.alerts.limits import ChannelLimits
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.oncall import Override, Person, Rotation, Schedule
from thalweg.alerts.routing import Route
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.silences import MaintenanceWindow, instant
from thalweg.alerts.stages import FlapDetection, Inhibition, StormProtection
from thalweg.alerts.suppression import CountBasedSuppression, Suppression, TimeBasedSuppression
from thalweg.errors import ConfigurationError, ThalwegError
from thalweg.yaml_text import parse_yaml

CHANNELS: Mapping[str, Callable[..., Any]] = {
    "apprise": channels.AppriseChannel,
    "console": channels.ConsoleChannel,
    "email": channels.EmailChannel,
    "pagerduty": channels.PagerDutyChannel,
    "slack": channels.SlackChannel,
    "sms": channels.SmsChannel,
    "webhook": channels.WebhookChannel,
}
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
DEFAULT_STORE = "sqlite:///alerts.db"
SECTIONS = (
    "store", "channels", "rules", "route", "schedules", "inhibitions", "maintenance", "flapping", "storm", "keys",
    "source", "slack_signing_secret", "history",
)  # fmt: skip


def read(path: Path | str, sections: Sequence[str] = SECTIONS) -> dict[str, Any]:
    """These sections of the file as plain data, with the environment's values in place.

    Raises:
        ConfigurationError: it can't be read, is no YAML, has an unknown section, or names a variable that is not set.
    """
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    found = parse_yaml(text, path, what="alert rules and channels", extra="alerts")
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: a mapping is expected, with sections such as `rules`")
    if unknown := [name for name in found if name not in SECTIONS]:
        raise ConfigurationError(f"{path}: unknown section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    resolved: dict[str, Any] = {
        name: _resolved(value, f"{path}: {name}") for name, value in found.items() if name in sections
    }
    return resolved


def load(path: Path | str, **settings: Any) -> AlertManager:
    """An alert manager as the file says; `settings` are those of `AlertManager` (`clock`, `deliver`).

    Raises:
        ConfigurationError: what is wrong, and where.
    """
    config = read(path)
    manager = AlertManager(config.get("store", DEFAULT_STORE), **settings)
    try:
        apply(manager, config, str(path))
    except BaseException:
        manager.close(0)
        raise
    return manager


def add_schedules(manager: AlertManager, config: Mapping[str, Any], where: str) -> None:
    """Adds the on-call schedules that the configuration has."""
    for number, given in enumerate(config.get("schedules") or ()):
        manager.add_schedule(_schedule(given, f"{where}: schedules: {number + 1}", Path(where).parent))


def apply(manager: AlertManager, config: Mapping[str, Any], where: str) -> None:
    """Adds what the configuration says to a manager, and checks the whole."""
    for name, given in (config.get("channels") or {}).items():
        place = f"{where}: channels: {name}"
        limits = dict(given or {}).get("limits")
        made = None if limits is None else _made(ChannelLimits, limits, f"{place}: limits")
        manager.add_channel(name, _channel(dict(given or {}), place), limits=made)
    add_schedules(manager, config, where)
    if config.get("route") is not None:
        manager.set_route(_route(config["route"], f"{where}: route"))
    for number, given in enumerate(config.get("inhibitions") or ()):
        manager.add_inhibition(_made(Inhibition, given, f"{where}: inhibitions: {number + 1}"))
    for number, given in enumerate(config.get("maintenance") or ()):
        manager.add_maintenance(_made(MaintenanceWindow, given, f"{where}: maintenance: {number + 1}"))
    if config.get("flapping") is not None:
        manager.detect_flapping(_made(FlapDetection, config["flapping"], f"{where}: flapping"))
    if config.get("storm") is not None:
        manager.protect_from_storms(_made(StormProtection, config["storm"], f"{where}: storm"))
    if config.get("history") is not None:
        manager.add_history(_made(PostgresHistory, config["history"], f"{where}: history"))
    _said(where, manager.replace_rules, rules_of(config, where))
    _said(where, manager.check)


def rules_of(config: Mapping[str, Any], where: str) -> list[AlertRule]:
    """The rules of a configuration."""
    rules = []
    for number, given in enumerate(config.get("rules") or ()):
        place = f"{where}: rules: {(given or {}).get('id', number + 1) if isinstance(given, dict) else number + 1}"
        values = _mapping(given, place)
        if "suppress" in values:
            values["suppression_rules"] = [_suppression(one, place) for one in values.pop("suppress")]
        if "channels" in values:
            values["notification_channels"] = values.pop("channels")
        if "escalation" in values:
            values["escalation_policy"] = _policy(values.pop("escalation"), place)
        for text in ("condition", "clear"):
            if text in values and not isinstance(values[text], str):
                raise ConfigurationError(f"{place}: {text} is {values[text]!r}; write it as a text")
        rule: AlertRule = _made(AlertRule, values, place)
        _check_condition(rule, place)
        rules.append(rule)
    return rules


def _check_condition(rule: AlertRule, place: str) -> None:
    """A condition that can't be read is refused when the file is, not when the first event comes."""
    from thalweg.cep.conditions import Condition

    for text in (rule.condition, rule.clear):
        if isinstance(text, str):
            try:
                Condition(text)
            except ThalwegError as error:
                raise ConfigurationError(f"{place}: {error}") from error


def _channel(given: dict[str, Any], place: str) -> channels.Channel:
    kind = given.pop("type", None)
    if kind not in CHANNELS:
        raise ConfigurationError(f"{place}: type {kind!r}; there are {', '.join(CHANNELS)}")
    made: channels.Channel = _made(CHANNELS[kind], given, place, leave=("limits",))
    return made


def _schedule(given: Any, place: str, folder: Path) -> Schedule:
    """`ical` is a calendar's file whose events are shifts; what stands in `overrides` wins over them."""
    values = _mapping(given, place)
    calendar, here = values.pop("ical", None), values.get("timezone", "UTC")
    values["people"] = [_made(Person, one, f"{place}: people") for one in values.get("people") or ()]
    values["rotations"] = [_made(Rotation, one, f"{place}: rotations") for one in values.get("rotations") or ()]
    overrides = [_override(one, f"{place}: overrides", here) for one in values.get("overrides") or ()]
    if calendar is not None:
        overrides = [*_shifts(folder / str(calendar), values, here, place), *overrides]
    schedule: Schedule = _made(Schedule, {**values, "overrides": overrides}, place)
    return schedule


def _override(given: Any, place: str, timezone: str) -> Override:
    """Its times are texts, such as 2026-01-05T09:00, by the clocks of the schedule; or ms UTC."""
    values = _mapping(given, place)
    for name in ("start", "end"):
        if name in values:
            values[name] = _said(place, instant, values[name], timezone, name)
    made: Override = _made(Override, values, place)
    return made


def _shifts(file: Path, values: Mapping[str, Any], timezone: str, place: str) -> Sequence[Override]:
    try:
        text = file.read_text()
    except OSError as error:
        raise ConfigurationError(f"{place}: ical: {file}: {error.strerror}") from error
    planned: Schedule = _said(
        f"{place}: ical", lambda: from_ical(text, str(values.get("name")), values["people"], timezone=timezone)
    )
    return planned.overrides


def _route(given: Any, place: str) -> Route:
    values = _mapping(given, place)
    values["routes"] = [_route(one, f"{place}: routes") for one in values.get("routes") or ()]
    if values.get("escalation") is not None:
        values["escalation"] = _policy(values["escalation"], place)
    route: Route = _made(Route, values, place)
    return route


def _policy(given: Any, place: str) -> EscalationPolicy:
    values = _mapping({"levels": given} if isinstance(given, list) else given, f"{place}: escalation")
    values["levels"] = [_made(EscalationLevel, one, f"{place}: escalation") for one in values.get("levels") or ()]
    policy: EscalationPolicy = _made(EscalationPolicy, values, f"{place}: escalation")
    return policy


def _suppression(given: Any, place: str) -> Suppression:
    values = _mapping(given, f"{place}: suppress")
    kind = CountBasedSuppression if "count" in values else TimeBasedSuppression
    made: Suppression = _made(kind, values, f"{place}: suppress")
    return made


def _made(kind: Callable[..., Any], given: Any, place: str, leave: tuple[str, ...] = ()) -> Any:
    """An object of these settings; what it refuses, or does not know, is said with the place."""
    values = {name: value for name, value in _mapping(given, place).items() if name not in leave}
    known = [name for name in signature(kind).parameters if not name.startswith("_")]
    if unknown := [name for name in values if name not in known]:
        raise ConfigurationError(f"{place}: unknown setting {unknown[0]!r}; there are {', '.join(known)}")
    try:
        return _said(place, lambda: kind(**values))
    except TypeError as error:
        raise ConfigurationError(f"{place}: {str(error).rpartition('.')[2]}") from error


def _said(place: str, make: Callable[..., Any], *values: Any) -> Any:
    """What is made of values; what is refused is said with the place."""
    try:
        return make(*values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from error


def _mapping(given: Any, place: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ConfigurationError(f"{place}: a mapping is expected, not {given!r}")
    return dict(given)


def _resolved(value: Any, place: str) -> Any:
    if isinstance(value, dict):
        return {name: _resolved(item, f"{place}: {name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, place) for item in value]
    if not isinstance(value, str):
        return value

    def of_environment(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigurationError(f"{place}: the environment has no variable {found[1]}")
        return os.environ[found[1]]

    return _VARIABLE.sub(of_environment, value)
