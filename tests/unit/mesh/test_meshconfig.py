import pytest

from pilotfish.api.durations import Duration, parse_duration
from pilotfish.api.errors import Invalid
from pilotfish.api.proxyconfig import ProxyConfig, overlay_proxy_config, proxy_config_document
from pilotfish.mesh.meshconfig import MeshConfig, mesh_config, read_mesh_config

SEED = """
accessLogFile: /dev/stdout
defaultConfig:
  holdApplicationUntilProxyStarts: true
  proxyMetadata:
    ISTIO_META_DNS_CAPTURE: "true"
    ISTIO_META_DNS_AUTO_ALLOCATE: "true"
trustDomain: cluster.local
"""


def test_the_walkthrough_configuration_is_read():
    config = read_mesh_config(SEED)
    assert config.access_log_file == "/dev/stdout"
    assert config.default_config.hold_application_until_proxy_starts
    assert config.default_config.switched_on("ISTIO_META_DNS_CAPTURE")
    assert not config.default_config.switched_on("ISTIO_META_IDLE")
    assert config.default_config.drain_duration == 45
    assert config.connect_timeout == 10


def test_nothing_given_means_istios_defaults():
    assert read_mesh_config("") == MeshConfig()
    assert MeshConfig().outbound_traffic_policy.mode == "ALLOW_ANY"


def faults_of(document, path=""):
    with pytest.raises(Invalid) as refused:
        mesh_config(document, path)
    return {cause["field"]: cause["message"] for cause in refused.value.details["causes"]}


def test_every_unknown_field_is_named_with_its_path():
    document = {"accesLogFile": "x", "defaultConfig": {"proxyMetdata": {}}}
    faults = faults_of(document, "spec.meshConfig")
    assert set(faults) == {"spec.meshConfig.accesLogFile", "spec.meshConfig.defaultConfig.proxyMetdata"}
    assert 'did you mean "accessLogFile"?' in faults["spec.meshConfig.accesLogFile"]


@pytest.mark.parametrize(
    ("document", "path", "part"),
    [
        ({"accessLogEncoding": "XML"}, "accessLogEncoding", '"JSON", "TEXT"'),
        ({"outboundTrafficPolicy": {"mode": "ALLOW"}}, "outboundTrafficPolicy.mode", "REGISTRY_ONLY"),
        ({"defaultConfig": {"drainDuration": "45"}}, "defaultConfig.drainDuration", "unit"),
        ({"defaultConfig": {"concurrency": -1}}, "defaultConfig.concurrency", "0 (all cores)"),
        ({"defaultConfig": {"proxyMetadata": {"A": True}}}, "defaultConfig.proxyMetadata[A]", "a string"),
        (
            {"defaultConfig": {"gatewayTopology": {"forwardClientCertDetails": "FORWARD"}}},
            "defaultConfig.gatewayTopology.forwardClientCertDetails",
            "SANITIZE_SET",
        ),
        (
            {"defaultConfig": {"gatewayTopology": {"numTrustedProxies": -1}}},
            "defaultConfig.gatewayTopology.numTrustedProxies",
            "at least 0",
        ),
        ({"proxyListenPort": 70000}, "proxyListenPort", "1 to 65535"),
        ({"connectTimeout": "0s"}, "connectTimeout", "1ms"),
    ],
)
def test_a_bad_value_is_refused_where_it_stands(document, path, part):
    faults = faults_of(document)
    assert list(faults) == [path]
    assert part in faults[path]


def test_text_that_is_no_mapping_is_refused():
    for text in ("- a", "a: [", "just words"):
        with pytest.raises(Invalid):
            read_mesh_config(text)


def test_a_pods_overlay_replaces_fields_and_merges_metadata():
    base = ProxyConfig(concurrency=2, proxy_metadata={"A": "1", "B": "1"})
    merged = overlay_proxy_config(base, {"drainDuration": "1m", "proxyMetadata": {"B": "2", "C": "3"}})
    assert merged.concurrency == 2
    assert merged.drain_duration == 60
    assert merged.proxy_metadata == {"A": "1", "B": "2", "C": "3"}
    assert base.proxy_metadata == {"A": "1", "B": "1"}


def test_only_what_differs_from_the_defaults_goes_to_the_proxy():
    config = mesh_config({"defaultConfig": {"drainDuration": "45s", "concurrency": 0, "binaryPath": "/x"}})
    assert proxy_config_document(config.default_config) == {"concurrency": 0, "binaryPath": "/x"}
    assert proxy_config_document(ProxyConfig(drain_duration=Duration(1.5))) == {"drainDuration": "1.5s"}


def test_what_stands_before_a_gateway_goes_to_the_proxy():
    topology = {"numTrustedProxies": 1, "forwardClientCertDetails": "SANITIZE", "proxyProtocol": {}}
    config = overlay_proxy_config(ProxyConfig(), {"gatewayTopology": topology})
    assert proxy_config_document(config) == {"gatewayTopology": topology}
    with pytest.raises(Invalid):
        overlay_proxy_config(ProxyConfig(), {"gatewayTopology": {"forwardClientCertDetails": "X"}})


def test_durations_are_read_as_go_reads_them():
    cases = {"10s": 10, "250ms": 0.25, "1h30m": 5400, "1.5s": 1.5, "0": 0, "-2s": -2}
    assert {text: float(parse_duration(text)) for text in cases} == cases
    for bad in ("", "s", "10", "10 s", "1d", "5s3"):
        with pytest.raises(ValueError, match="is no duration"):
            parse_duration(bad)
    assert str(Duration(0.25)) == "0.25s"
