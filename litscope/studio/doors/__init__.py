"""How the service is reached. No torch.

    http            one route for each of its methods
    wire            what goes over HTTP
    failures        errors as HTTP answers
    stream          the event stream
    news            what changed, for the stream
    files           the built page's own files
    security        who may ask
    serving         a socket, a token, a server
    limits          how much may be asked at once
    console/        a command line
    rpc/            gRPC

Who may come in: `commands`.
"""
