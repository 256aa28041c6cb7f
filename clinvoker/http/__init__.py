"""The HTTP ground: hypercorn's protocol engine and quart-trio under an I/O layer of our own.

hypercorn parses and frames; its trio layer is what fails (platform.md section 1), so that layer is replaced, not patched:

    server      serve(): accept, cap, and stop within the grace; the nesting of its nurseries is the order of the end
    lifespan    the app's start and stop; a crash in between ends the server instead of leaving a dead app behind it
    connection  one accepted socket: one cancel scope, one reader, one guarded writer, one deadline at a time
    wire        what the protocol layers ask of it
    shared      what all connections of one serve() have in common
    http1       hypercorn's H11Protocol with every wait bounded and every refusal answered in our error shape
    vet         which request heads are refused, as one pure function
    websocket   hypercorn's WSStream with bounds, close codes and a pong deadline
    exchange    one request: the app's task, its inbox, the resources that end with it, its heartbeat
    inbox       what the wire has for the app, bounded in bytes
    refusal     how the server itself says no
    stream      what handlers use: streaming() and current_request_stack()
    quartfix    what has to be set on a QuartTrio app
    sockets     bind(): port in use is one line; unix: a Unix socket instead
    limits      every number, with its unit

    sockets = bind("127.0.0.1", 8080)
    urls = await nursery.start(partial(serve, app, sockets, limits=Limits(), shutdown_trigger=stop.wait))
"""
