"""How a server learns who the client is: the client's proxy says it in a header, which the server's proxy takes off.

What a client knows of the server is in the metadata of the endpoint.
"""

from __future__ import annotations

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from pilotfish.api.peer import Variable
from pilotfish.xds.build import common
from pilotfish.xds.build.metrics import PEER

PEER_HEADER = "x-pilotfish-peer"
TELL_PEER, HEAR_PEER = "header_mutation", "header_to_metadata"
"""The filters' names, without "envoy.filters.http."."""

_Kind = header_to_metadata_pb2.Config


def tell_peer() -> header_mutation_pb2.HeaderMutation:
    """Adds the header, from the proxy's environment."""
    header = base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=PEER_HEADER, value=f"%ENVIRONMENT({Variable.PEER})%"),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    mutation = mutation_rules_pb2.HeaderMutation(append=header)
    return header_mutation_pb2.HeaderMutation(mutations=header_mutation_pb2.Mutations(request_mutations=[mutation]))


def hear_peer() -> header_to_metadata_pb2.Config:
    """Moves the header into the request's dynamic metadata; the workload does not see it."""
    rule = _Kind.Rule(
        header=PEER_HEADER,
        on_header_present=_Kind.KeyValuePair(
            metadata_namespace=PEER, key="source", type=_Kind.PROTOBUF_VALUE, encode=_Kind.BASE64
        ),
        remove=True,
    )
    return _Kind(request_rules=[rule])


def hide_peer() -> tuple[hcm_pb2.HttpFilter, ...]:
    """The filters of a cluster whose servers are not to get the header. Its routes cannot leave it out: a weight may
    decide where a request goes.
    """
    mutation = mutation_rules_pb2.HeaderMutation(remove=PEER_HEADER)
    removal = header_mutation_pb2.HeaderMutation(mutations=header_mutation_pb2.Mutations(request_mutations=[mutation]))
    configs = ((TELL_PEER, removal), ("upstream_codec", upstream_codec_pb2.UpstreamCodec()))
    return tuple(
        hcm_pb2.HttpFilter(name=f"envoy.filters.http.{name}", typed_config=common.any_of(config))
        for name, config in configs
    )
