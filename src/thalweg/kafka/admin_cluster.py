"""Brokers, access rights, users, disks and quotas of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka._admin_base import AdminBase
from thalweg.kafka._wire import Connection
from thalweg.kafka._wire_requests import alter_quotas, describe_log_dirs, describe_quotas

_ITERATIONS = 8192
_HEARD_OF = 5.0
"""Seconds within which a broker should have heard of a change."""


@dataclass(frozen=True, slots=True)
class BrokerDescription:
    """A broker and where it is reached."""

    id: int
    host: str
    port: int
    rack: str | None


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """A cluster; `controller` is a broker's id, -1 where there is none."""

    cluster_id: str
    controller: int
    brokers: tuple[BrokerDescription, ...]


@dataclass(frozen=True, slots=True)
class Acl:
    """A right, or (`allow=False`) a prohibition.

    Args:
        principal: such as "User:ada".
        operation: "READ", "WRITE", "CREATE", "DESCRIBE", "ALL" …
        resource: "TOPIC", "GROUP", "BROKER" or "TRANSACTIONAL_ID".
        name: of the resource; with `prefixed` the beginning of its name.
    """

    principal: str
    operation: str
    resource: str
    name: str
    prefixed: bool = False
    host: str = "*"
    allow: bool = True


@dataclass(frozen=True, slots=True)
class LogDirectory:
    """A broker's folder and what each partition takes there, in bytes."""

    broker: int
    path: str
    partitions: Mapping[tuple[str, int], int]

    @property
    def bytes(self) -> int:
        return sum(self.partitions.values())


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of an entity: `{"user": "ada", "client-id": None}` (None: the default one) to, say,
    `{"producer_byte_rate": 1e6}`."""

    entity: Mapping[str, str | None]
    limits: Mapping[str, float]


class ClusterAdmin(AdminBase):
    """The part of `KafkaAdmin` about the cluster itself."""

    def describe_cluster(self) -> ClusterDescription:
        """Who belongs to the cluster.

        Raises:
            ConnectorError: it can't be reached.
        """
        found = self._read(lambda seconds: self._client.describe_cluster(request_timeout=seconds), "the cluster")
        brokers = tuple(
            BrokerDescription(node.id, node.host, node.port, node.rack or None)
            for node in sorted(found.nodes, key=lambda node: int(node.id))
        )
        controller = found.controller.id if found.controller is not None else -1
        return ClusterDescription(found.cluster_id, controller, brokers)

    # ---------------------------------------------------------------- rights and users

    def acls(
        self,
        *,
        resource: str | None = None,
        name: str | None = None,
        principal: str | None = None,
        operation: str | None = None,
    ) -> list[Acl]:
        """The rights that match; None matches all.

        Raises:
            ConfigurationError: no such operation or resource.
            ConnectorError: the cluster has no authorizer, or can't be reached.
        """
        wanted = self._filter(resource, name, principal, operation)
        asked = self._call(lambda: self._client.describe_acls(wanted, request_timeout=self.timeout))
        found = sorted((_acl(each) for each in self._result(asked, "the ACLs")), key=str)
        if not found and self._lacks_authorizer():  # the client takes that answer for an empty one
            raise ConnectorError(
                f"the cluster at {self.brokers} has no authorizer (authorizer.class.name), so there are no rights"
            )
        return found

    def create_acls(self, acls: Iterable[Acl]) -> None:
        """Grants rights; one that is there already stays. Returns when the broker that is asked has heard of them.

        Raises:
            ConfigurationError: no such operation or resource.
            ConnectorError: the cluster refuses, or can't be reached.
        """
        bindings = [_binding(acl) for acl in acls]
        asked = self._call(lambda: self._client.create_acls(bindings, request_timeout=self.timeout))
        for binding, future in asked.items():
            self._result(future, f"creating {binding}")
        granted = set(map(_acl, bindings))
        self._until_heard(lambda: granted <= set(self.acls()))

    def delete_acls(
        self,
        *,
        resource: str | None = None,
        name: str | None = None,
        principal: str | None = None,
        operation: str | None = None,
    ) -> list[Acl]:
        """Takes the rights that match away; returns them. None matches all.

        Raises:
            ConfigurationError: nothing is given: that would take all rights away; no such operation or resource.
            ConnectorError: the cluster refuses, or can't be reached.
        """
        if resource is None and name is None and principal is None and operation is None:
            raise ConfigurationError("say which rights to take away: resource, name, principal or operation")
        wanted = self._filter(resource, name, principal, operation)
        asked = self._call(lambda: self._client.delete_acls([wanted], request_timeout=self.timeout))
        gone = sorted((_acl(found) for found in self._result(asked[wanted], "deleting ACLs")), key=str)
        self._until_heard(lambda: not set(gone) & set(self.acls()))
        return gone

    @staticmethod
    def _until_heard(heard: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _HEARD_OF
        while not heard() and time.monotonic() < deadline:
            time.sleep(0.02)

    def set_password(self, user: str, password: str, mechanism: str = "SCRAM-SHA-512") -> None:
        """Makes a SCRAM user, or gives one another password.

        Raises:
            ConnectorError: the cluster refuses, or can't be reached.
        """
        from confluent_kafka.admin import ScramCredentialInfo, UserScramCredentialUpsertion

        info = ScramCredentialInfo(_member("ScramMechanism", mechanism.replace("-", "_")), _ITERATIONS)
        self._alter_user(user, UserScramCredentialUpsertion(user, info, password.encode()))

    def delete_user(self, user: str, mechanism: str = "SCRAM-SHA-512") -> None:
        """Takes a SCRAM user's password away.

        Raises:
            ConnectorError: no such user, or the cluster can't be reached.
        """
        from confluent_kafka.admin import UserScramCredentialDeletion

        self._alter_user(
            user, UserScramCredentialDeletion(user, _member("ScramMechanism", mechanism.replace("-", "_")))
        )

    # ---------------------------------------------------------------- disks and quotas, which librdkafka lacks

    def log_dirs(self) -> list[LogDirectory]:
        """What every broker keeps where.

        Raises:
            ConnectorError: a broker can't be reached, or refuses.
        """
        found = []
        for broker in self.describe_cluster().brokers:
            with self._connection(broker.host, broker.port) as connection:
                found += [LogDirectory(broker.id, path, sizes) for path, sizes in describe_log_dirs(connection)]
        return found

    def quotas(self) -> list[Quota]:
        """All quotas of users, clients and addresses.

        Raises:
            ConnectorError: the cluster can't be reached, or refuses.
        """
        with self._any_broker() as connection:
            return [Quota(entity, limits) for entity, limits in describe_quotas(connection)]

    def set_quota(self, entity: Mapping[str, str | None], limits: Mapping[str, float | None]) -> None:
        """Changes limits of an entity; None takes one away.

        Args:
            entity: "user", "client-id" or "ip" to a name, or to None for the default one.
            limits: "producer_byte_rate", "consumer_byte_rate", "request_percentage" … to values.

        Raises:
            ConnectorError: the cluster refuses, or can't be reached.
        """
        with self._any_broker() as connection:
            alter_quotas(connection, entity, limits)

    # ---------------------------------------------------------------- inside

    def _lacks_authorizer(self) -> bool:
        from confluent_kafka.admin import ConfigResource, ResourceType

        broker = ConfigResource(ResourceType.BROKER, str(self.describe_cluster().brokers[0].id))
        asked = self._call(lambda: self._client.describe_configs([broker], request_timeout=self.timeout))
        try:
            entries = self._result(asked[broker], "the broker's settings")
        except ConnectorError:
            return False  # who may not look at settings is kept from it by an authorizer
        named = entries.get("authorizer.class.name")
        return named is not None and not named.value

    def _any_broker(self) -> Connection:
        broker = self.describe_cluster().brokers[0]
        return self._connection(broker.host, broker.port)

    def _connection(self, host: str, port: int) -> Connection:
        return Connection(host, port, self._security, self.timeout)

    def _alter_user(self, user: str, alteration: Any) -> None:
        asked = self._call(
            lambda: self._client.alter_user_scram_credentials([alteration], request_timeout=self.timeout)
        )
        self._result(asked[user], f"the credentials of {user!r}")

    def _filter(self, resource: str | None, name: str | None, principal: str | None, operation: str | None) -> Any:
        from confluent_kafka.admin import AclBindingFilter, AclPermissionType, ResourcePatternType

        kind, what = _member("ResourceType", resource or "ANY"), _member("AclOperation", operation or "ANY")
        return AclBindingFilter(kind, name, ResourcePatternType.ANY, principal, None, what, AclPermissionType.ANY)


def _member(enum: str, name: str) -> Any:
    import confluent_kafka.admin as admin

    members = getattr(admin, enum)
    try:
        return members[name.upper()]
    except KeyError:
        known = ", ".join(member.name for member in members if member.name not in ("UNKNOWN", "ANY", "MATCH"))
        raise ConfigurationError(f"{name!r}: use one of {known}") from None


def _binding(acl: Acl) -> Any:
    from confluent_kafka.admin import AclBinding

    return AclBinding(
        _member("ResourceType", acl.resource),
        acl.name,
        _member("ResourcePatternType", "PREFIXED" if acl.prefixed else "LITERAL"),
        acl.principal,
        acl.host,
        _member("AclOperation", acl.operation),
        _member("AclPermissionType", "ALLOW" if acl.allow else "DENY"),
    )


def _acl(found: Any) -> Acl:
    return Acl(
        found.principal,
        found.operation.name,
        found.restype.name,
        found.name,
        found.resource_pattern_type.name == "PREFIXED",
        found.host,
        found.permission_type.name == "ALLOW",
    )
