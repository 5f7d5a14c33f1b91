"""The few protobuf messages of Istio's own that travel between our processes, defined field by field.

`xds-protos` carries Envoy's messages and not Istio's. Numbers and names are those of Istio: pkg/dns/proto/nds.proto and
security/v1alpha1/ca.proto in its repositories, so that its own clients can read what we send.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

_Field = descriptor_pb2.FieldDescriptorProto

NAME_TABLE_TYPE = "type.googleapis.com/istio.networking.nds.v1.NameTable"
CERTIFICATE_METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def _field(
    message: descriptor_pb2.DescriptorProto, number: int, name: str, kind: int, *, repeated: bool = False, of: str = ""
) -> None:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label, type=kind)
    if of:
        field.type_name = of


def _name_table() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="pilotfish/nds.proto", package="istio.networking.nds.v1", syntax="proto3"
    )
    table = file.message_type.add(name="NameTable")
    info = table.nested_type.add(name="NameInfo")
    _field(info, 1, "ips", _Field.TYPE_STRING, repeated=True)
    _field(info, 2, "registry", _Field.TYPE_STRING)
    _field(info, 3, "shortname", _Field.TYPE_STRING)
    _field(info, 4, "namespace", _Field.TYPE_STRING)
    _field(info, 5, "alt_hosts", _Field.TYPE_STRING, repeated=True)
    _field(info, 1000, "canonical", _Field.TYPE_STRING)  # not Istio's, whose clients pass it over
    entry = table.nested_type.add(name="TableEntry")
    entry.options.map_entry = True
    _field(entry, 1, "key", _Field.TYPE_STRING)
    _field(entry, 2, "value", _Field.TYPE_MESSAGE, of=".istio.networking.nds.v1.NameTable.NameInfo")
    _field(table, 1, "table", _Field.TYPE_MESSAGE, repeated=True, of=".istio.networking.nds.v1.NameTable.TableEntry")
    return file


def _certificates() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="pilotfish/ca.proto", package="istio.v1.auth", syntax="proto3")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    request = file.message_type.add(name="IstioCertificateRequest")
    _field(request, 1, "csr", _Field.TYPE_STRING)
    _field(request, 3, "validity_duration", _Field.TYPE_INT64)
    _field(request, 4, "metadata", _Field.TYPE_MESSAGE, of=".google.protobuf.Struct")
    response = file.message_type.add(name="IstioCertificateResponse")
    _field(response, 1, "cert_chain", _Field.TYPE_STRING, repeated=True)
    return file


_pool = descriptor_pool.Default()
for _file in (_name_table(), _certificates()):
    _pool.Add(_file)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


NameTable: Any = _message("istio.networking.nds.v1.NameTable")
"""`table` maps a host to a NameInfo: `ips`, `registry` ("Kubernetes" or "External"), `shortname`, `namespace`.

`canonical` is the name that this one is an alias of, as a CNAME record has it.
"""
IstioCertificateRequest: Any = _message("istio.v1.auth.IstioCertificateRequest")
IstioCertificateResponse: Any = _message("istio.v1.auth.IstioCertificateResponse")
