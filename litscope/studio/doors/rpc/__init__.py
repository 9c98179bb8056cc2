"""The service over gRPC, described in studio.proto (compiled: studio.binpb). No torch; grpcio is the extra `grpc`.

    server          a port, a token, a server
    calls           each call: a message in, the service's answer as a message
    messages        plain values <-> messages
    methods         which methods of the service can be called

Who may come in: `commands`.
"""
