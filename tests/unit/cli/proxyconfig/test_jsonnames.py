from __future__ import annotations

import json
from pathlib import Path

from envoy.config.listener.v3 import listener_pb2
from google.protobuf import json_format
from google.protobuf.json_format import MessageToDict

from pilotfish.cli.proxyconfig.dump import ConfigDump
from pilotfish.cli.proxyconfig.jsonnames import camel_case

ADMIN = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def test_fields_are_renamed_and_data_is_not() -> None:
    cluster = {
        "lb_policy": "ROUND_ROBIN",
        "eds_cluster_config": {"service_name": "x"},
        "metadata": {"filter_metadata": {"some_filter": {"a_key": 1}}},
        "typed_extension_protocol_options": {"envoy.a_b": {"@type": "type.googleapis.com/nobody.Knows", "a_b": 1}},
        "connect_timeout": "0.5s",
    }
    assert camel_case(cluster, "envoy.config.cluster.v3.Cluster") == {
        "lbPolicy": "ROUND_ROBIN",
        "edsClusterConfig": {"serviceName": "x"},
        "metadata": {"filterMetadata": {"some_filter": {"a_key": 1}}},
        "typedExtensionProtocolOptions": {"envoy.a_b": {"@type": "type.googleapis.com/nobody.Knows", "a_b": 1}},
        "connectTimeout": "0.5s",
    }


def test_extensions_are_found_by_their_type() -> None:
    packed = {"@type": ADMIN, "stat_prefix": "x", "access_log": [{"name": "a_b"}]}
    chain = {"filters": [{"name": "t", "typed_config": packed}]}
    [network_filter] = camel_case(chain, "envoy.config.listener.v3.FilterChain")["filters"]
    assert network_filter["typedConfig"] == {"@type": ADMIN, "statPrefix": "x", "accessLog": [{"name": "a_b"}]}


def test_it_is_what_protobuf_itself_writes() -> None:

    text = Path(__file__).with_name("config_dump.json").read_bytes()
    for listener in ConfigDump.parse(text).listeners():
        plain = {key: value for key, value in listener.items() if key != "@type"}
        renamed = camel_case(plain, "envoy.config.listener.v3.Listener")
        message = json_format.Parse(json.dumps(renamed), listener_pb2.Listener())
        assert json_format.Parse(json.dumps(plain), listener_pb2.Listener()) == message
        assert set(MessageToDict(message)) == set(renamed)


def test_fields_that_a_newer_envoy_has_can_be_left_out() -> None:
    packed = {"@type": ADMIN, "stat_prefix": "x", "not_yet": {}}
    chain = {"filters": [{"name": "t", "typed_config": packed, "not_yet": 1}]}
    of = "envoy.config.listener.v3.FilterChain"
    assert camel_case(chain, of, known_only=True) == {
        "filters": [{"name": "t", "typedConfig": {"@type": ADMIN, "statPrefix": "x"}}]
    }
    assert camel_case(chain, of)["filters"][0]["not_yet"] == 1
