"""The node's DNS process: answers for all pods of the node, on sockets inside their network namespaces.

`wire` is the message format, `table` the names, `responder` what to say to a query. `hot` and `udp` make it fast,
`tcp` complete; `upstream` asks the host's resolvers. `names` subscribes to the control plane's name table, `listeners`
opens sockets where the pods are, `control` is how the node agent says which pods there are, `process` puts it together.
"""
