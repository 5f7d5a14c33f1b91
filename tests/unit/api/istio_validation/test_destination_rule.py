import pytest


@pytest.mark.parametrize(
    ("policy", "path", "part"),
    [
        ({}, "", "leave it out"),
        (
            {"tunnel": {"targetHost": "a", "targetPort": 1}, "proxyProtocol": {}},
            ".proxyProtocol",
            "one of them",
        ),
        ({"tunnel": {"targetHost": "a", "targetPort": 1, "protocol": "GET"}}, ".tunnel.protocol", '"CONNECT"'),
        ({"tunnel": {"targetHost": "a_b", "targetPort": 1}}, ".tunnel.targetHost", "IP address or a host"),
        ({"tunnel": {"targetHost": "a", "targetPort": 0}}, ".tunnel.targetPort", "65535"),
        ({"outlierDetection": {"interval": "0s"}}, ".outlierDetection.interval", "1ms"),
        ({"outlierDetection": {"baseEjectionTime": "0s"}}, ".outlierDetection.baseEjectionTime", "1ms"),
        (
            {"outlierDetection": {"consecutiveLocalOriginFailures": 1}},
            ".outlierDetection.consecutiveLocalOriginFailures",
            "splitExternalLocalOriginErrors: true",
        ),
        ({"outlierDetection": {"maxEjectionPercent": 101}}, ".outlierDetection.maxEjectionPercent", "100"),
        ({"outlierDetection": {"minHealthPercent": -1}}, ".outlierDetection.minHealthPercent", "100"),
        ({"connectionPool": {}}, ".connectionPool", "tcp or http"),
        ({"connectionPool": {"http": {"maxRetries": -1}}}, ".connectionPool.http.maxRetries", "at least 0"),
        ({"connectionPool": {"http": {"idleTimeout": "0s"}}}, ".connectionPool.http.idleTimeout", "1ms"),
        (
            {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": True}}},
            ".connectionPool.http.useClientProtocol",
            "one of them",
        ),
        (
            {"connectionPool": {"http": {"http2KeepAlive": {"interval": "1s"}}}},
            ".connectionPool.http.http2KeepAlive.timeout",
            "Required",
        ),
        ({"connectionPool": {"tcp": {"maxConnections": -1}}}, ".connectionPool.tcp.maxConnections", "at least 0"),
        ({"connectionPool": {"tcp": {"idleTimeout": "-1s"}}}, ".connectionPool.tcp.idleTimeout", "1ms"),
        ({"connectionPool": {"tcp": {"tcpKeepalive": {"time": "0s"}}}}, ".connectionPool.tcp.tcpKeepalive.time", "1ms"),
        ({"retryBudget": {"budgetInterval": "0s"}}, ".retryBudget.budgetInterval", "1ms"),
        ({"portLevelSettings": [{"tls": {}}]}, ".portLevelSettings[0].port", "which port"),
        ({"portLevelSettings": [{"port": {"number": 1}}]}, ".portLevelSettings[0]", "leave them out"),
        ({"portLevelSettings": [{"port": {}, "tls": {}}]}, ".portLevelSettings[0].port.number", "65535"),
        ({"tls": {"mode": "MUTUAL", "privateKey": "k"}}, ".tls.clientCertificate", "credentialName"),
        ({"tls": {"mode": "MUTUAL", "clientCertificate": "c"}}, ".tls.privateKey", "credentialName"),
        ({"tls": {"mode": "SIMPLE", "credentialName": "a", "caCertificates": "b"}}, ".tls.caCertificates", "one of"),
        (
            {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True, "subjectAltNames": ["a"]}},
            ".tls.subjectAltNames",
            "insecureSkipVerify",
        ),
        ({"tls": {"credentialName": "configmap://other/ca"}}, ".tls.credentialName", "configmap://shop/ca"),
    ],
)
@pytest.mark.parametrize("place", ["spec.trafficPolicy", "spec.subsets[0].trafficPolicy"])
def test_a_fault_of_a_traffic_policy_names_its_field(policy, path, part, place, faults):
    spec = {"host": "a", "trafficPolicy": policy}
    if "subsets" in place:
        spec = {"host": "a", "subsets": [{"name": "v1", "trafficPolicy": policy}]}
    found = faults("destinationrule", spec)
    assert list(found) == [place + path]
    assert part in found[place + path]


@pytest.mark.parametrize(
    ("settings", "path", "part"),
    [
        ({"consistentHash": {"httpCookie": {"name": ""}}}, "consistentHash.httpCookie.name", "Required"),
        (
            {"consistentHash": {"httpCookie": {"name": "a", "attributes": [{"name": "b"}, {"name": "b"}]}}},
            "consistentHash.httpCookie.attributes[1].name",
            "Duplicate",
        ),
        (
            {"consistentHash": {"useSourceIp": True, "minimumRingSize": 1, "ringHash": {}}},
            "consistentHash.minimumRingSize",
            "deprecated",
        ),
        ({"consistentHash": {"maglev": {"tableSize": 65536}}}, "consistentHash.maglev.tableSize", "65537"),
        ({"consistentHash": {"maglev": {}}}, "consistentHash.maglev.tableSize", "prime"),
        ({"consistentHash": {"maglev": {"tableSize": 5000011}}}, "consistentHash.maglev.tableSize", "below 5000011"),
        ({"localityLbSetting": {}, "zoneAwareLbSetting": {}}, "zoneAwareLbSetting", "one of them"),
        ({"warmup": {"duration": "0s"}}, "warmup.duration", "1ms"),
        ({"warmup": {"duration": "1s", "aggression": 0}}, "warmup.aggression", "more than 0"),
        (
            {"localityLbSetting": {"distribute": [{"from": "a", "to": {"a": 100}}], "failover": [{"to": "b"}]}},
            "localityLbSetting.failover",
            "one of them",
        ),
        (
            {"localityLbSetting": {"distribute": [{"from": "a", "to": {"a": 50, "b": 40}}]}},
            "localityLbSetting.distribute[0].to",
            "and are 90",
        ),
        (
            {"localityLbSetting": {"distribute": [{"from": "a", "to": {"a": 100, "b": 0}}]}},
            "localityLbSetting.distribute[0].to[b]",
            "1 to 100",
        ),
        (
            {"localityLbSetting": {"distribute": [{"from": "a", "to": {"a/b": 50, "a/b/c": 50}}]}},
            "localityLbSetting.distribute[0].to",
            "overlaps with a/b",
        ),
        (
            {"localityLbSetting": {"distribute": [{"from": "a*b", "to": {"a": 100}}]}},
            "localityLbSetting.distribute",
            "one star",
        ),
        (
            {"localityLbSetting": {"distribute": [{"from": "a//b", "to": {"a": 100}}]}},
            "localityLbSetting.distribute",
            "<region>/<zone>/<subzone>",
        ),
        (
            {"localityLbSetting": {"failover": [{"from": "a", "to": "a"}]}},
            "localityLbSetting.failover[0].to",
            "another",
        ),
        (
            {"localityLbSetting": {"failover": [{"from": "a", "to": "b/c"}]}},
            "localityLbSetting.failover[0].to",
            "region",
        ),
        (
            {"localityLbSetting": {"failover": [{"to": "b"}], "failoverPriority": ["topology.kubernetes.io/zone"]}},
            "localityLbSetting.failoverPriority[0]",
            "failover says",
        ),
        (
            {"zoneAwareLbSetting": {"failoverPriority": ["topology.kubernetes.io/region"]}},
            "zoneAwareLbSetting.failoverPriority[0]",
            "regions and zones",
        ),
        (
            {"zoneAwareLbSetting": {"failover": [{"from": "*", "to": "a"}]}},
            "zoneAwareLbSetting.failover[0].from",
            "region",
        ),
    ],
)
def test_a_fault_of_a_load_balancer_names_its_field(settings, path, part, faults):
    found = faults("destinationrule", {"host": "a", "trafficPolicy": {"loadBalancer": settings}})
    where = f"spec.trafficPolicy.loadBalancer.{path}"
    assert list(found) == [where]
    assert part in found[where]


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"host": ""}, "spec.host", "empty"),
        ({"subsets": [{"name": "a"}, {"name": "a"}]}, "spec.subsets[1].name", "Duplicate"),
        ({"subsets": [{"name": ""}]}, "spec.subsets[0].name", "needs a name"),
        ({"subsets": [{"name": "a", "labels": {"a": "b c"}}]}, "spec.subsets[0].labels", "label"),
        ({"workloadSelector": {"matchLabels": {"a": "*"}}}, "spec.workloadSelector.matchLabels", "wildcards"),
        ({"workloadSelector": {"matchLabels": {"a": "b"}}, "exportTo": ["*"]}, "spec.exportTo[0]", "own namespace"),
        ({"exportTo": ["."], "host": "a_b"}, "spec.host", "label"),
    ],
)
def test_what_istio_refuses_is_refused_where_it_stands(changes, path, part, faults):
    found = faults("destinationrule", {"host": "a", **changes})
    assert list(found) == [path]
    assert part in found[path]


def test_what_istio_warns_of(warnings):
    failing_over = {"loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}}
    old = {
        "loadBalancer": {"consistentHash": {"useSourceIp": True, "minimumRingSize": 1}},
        "outlierDetection": {"consecutiveErrors": 1},
    }
    subsets = [{"name": "v1", "trafficPolicy": {"portLevelSettings": [{"port": {"number": 1}, **old}]}}]
    spec = {"host": "a", "trafficPolicy": failing_over, "subsets": subsets, "workloadSelector": {}}
    port = "spec.subsets[0].trafficPolicy.portLevelSettings[0]"
    assert list(warnings("destinationrule", spec)) == [
        "spec.trafficPolicy.loadBalancer.localityLbSetting",
        f"{port}.loadBalancer.consistentHash.minimumRingSize",
        f"{port}.outlierDetection.consecutiveErrors",
        "spec.workloadSelector",
    ]
    ejecting = {**failing_over, "outlierDetection": {"interval": "1s"}}
    assert warnings("destinationrule", {"host": "a", "trafficPolicy": ejecting}) == {}
