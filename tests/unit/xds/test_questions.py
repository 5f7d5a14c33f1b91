"""What istioctl asks over ADS, over real connections and in both variants."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.admin.v3 import config_dump_shared_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.status.v3 import csds_pb2

from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files, KeyPair
from pilotfish.xds import questions
from pilotfish.xds.server import SERVICE, AdsServer, mutual_tls, serving
from pilotfish.xds.source import CLUSTER, LISTENER, Resource

NODE = "sidecar~10.0.0.1~web-1.shop~x"


async def connected(channel: Any) -> Any:
    """A proxy that has acknowledged its clusters, and refused its listeners."""
    call = channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")()
    for url in (CLUSTER, LISTENER):
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=url)
        request.node.id = NODE
        request.node.metadata.update({"CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.2.3", "NAMESPACE": "shop"})
        await call.write(request.SerializeToString())
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(await call.read())
        answer = discovery_pb2.DeltaDiscoveryRequest(type_url=url, response_nonce=response.nonce)
        if url == LISTENER:
            answer.error_detail.message = "no"
        await call.write(answer.SerializeToString())
    return call


async def asked(channel: Any, url: str, *names: str) -> Any:
    call = channel.stream_stream(f"/{SERVICE}/StreamAggregatedResources")()
    request = discovery_pb2.DiscoveryRequest(type_url=url, resource_names=names)
    request.node.id = "sidecar~0.0.0.0~istioctl.default~x"
    await call.write(request.SerializeToString())
    response = discovery_pb2.DiscoveryResponse.FromString(await call.read())
    request.response_nonce = response.nonce
    await call.write(request.SerializeToString())
    again = discovery_pb2.DiscoveryRequest(type_url=url, resource_names=names)
    await call.write(again.SerializeToString())
    second = discovery_pb2.DiscoveryResponse.FromString(await call.read())
    assert second.nonce != response.nonce, "a second question has a second answer, an acknowledgement none"
    await call.done_writing()
    return second


def test_the_state_and_the_configuration_of_proxies(source: Any) -> None:
    async def run() -> None:
        ads = AdsServer(source, None, answer=questions.response)
        for url in (CLUSTER, LISTENER):
            source.set(url, Resource("a", "1", cluster_pb2.Cluster(name="a").SerializeToString()))
        async with (
            serving([ads.service()], "127.0.0.1:0", None) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call = await connected(channel)
            async with asyncio.timeout(10):
                while ads.proxies()[0].types.get(LISTENER) is None or not ads.proxies()[0].types[LISTENER].rejection:
                    await asyncio.sleep(0.005)
            state = await asked(channel, questions.SYNCZ)
            assert state.control_plane.identifier == '{"Component":"istiod","ID":"istiod"}'
            assert state.type_url == "istio.io/debug/syncz"
            [packed] = state.resources
            config = csds_pb2.ClientConfig()
            assert packed.Unpack(config)
            assert (config.node.id, config.node.metadata["ISTIO_VERSION"]) == (NODE, "1.2.3")
            told = {one.type_url: (one.config_status, one.error_state.details) for one in config.generic_xds_configs}
            assert told == {CLUSTER: (csds_pb2.SYNCED, ""), LISTENER: (csds_pb2.ERROR, "no")}
            dump = await asked(channel, questions.CONFIG_DUMP, "web-1.shop")
            clusters = config_dump_shared_pb2.ClustersConfigDump()
            assert dump.resources[0].Unpack(clusters)
            held = cluster_pb2.Cluster()
            assert clusters.dynamic_active_clusters[0].cluster.Unpack(held) and held.name == "a"
            assert len(ads.proxies()) == 1, "who asks is no proxy"
            call.cancel()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "names", "code"),
    [
        ("istio.io/debug/nothing", [], grpc.StatusCode.INVALID_ARGUMENT),
        (questions.CONFIG_DUMP, [], grpc.StatusCode.INVALID_ARGUMENT),
        (questions.CONFIG_DUMP, ["nobody.shop"], grpc.StatusCode.NOT_FOUND),
    ],
)
def test_what_cannot_be_answered(source: Any, url: str, names: list[str], code: grpc.StatusCode) -> None:
    async def run() -> None:
        ads = AdsServer(source, None, answer=questions.response)
        async with (
            serving([ads.service()], "127.0.0.1:0", None) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call = channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")()
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=url, resource_names_subscribe=names)
            await call.write(request.SerializeToString())
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert refused.value.code() is code

    asyncio.run(run())


def test_workloads_may_not_ask(source: Any, tmp_path: Path) -> None:
    authority = Authority.at(Files(tmp_path), name="mesh")
    server = authority.issue_server("istiod", SubjectNames.of(dns=["localhost"]))
    administrator = authority.issue_client("kubernetes-admin", "system:masters")
    workload = authority.issue_client("", "", SubjectNames.of(uris=["spiffe://mesh/ns/istio-system/sa/x"]))

    async def ask(pair: KeyPair, port: int) -> Any:
        credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            return await asked(channel, questions.SYNCZ)

    async def run() -> None:
        ads = AdsServer(source, {"mesh"}, answer=questions.response)
        async with serving([ads.service()], "localhost:0", mutual_tls(server, authority.pem)) as port:
            assert list((await ask(administrator, port)).resources) == []
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(workload, port)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(run())
