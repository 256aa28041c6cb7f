"""The HTTP surfaces.

app        all routes and the error handler
guard      who may call: keys, Host, Origin; address: where from; rates: how often
native     prompts; fanout, runs, sessions, backends, websocket: the rest of /api/v1
openai     /openai/v1
anthropic  /anthropic/v1
health     /health and /metrics
exchange   what all handlers share: reading the request at hand, writing its answer
requests   decoding a body, and naming the field at fault
frames     writing events: SSE, NDJSON
operation  what a route takes and gives, told beside it
openapi    /openapi.json, made of that; schemas: of its types; docs: /docs, the same for people
errors     an error as an HTTP answer
dialects   an error's body in each API's own words
"""
