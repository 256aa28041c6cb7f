"""The HTTP surfaces.

app       all routes, the error handler, health and metrics
guard     who may call: keys, Host, Origin
native    /api/v1
requests  reading a body, and naming the field at fault
frames    writing events: SSE, NDJSON
errors    the table from error codes to statuses and types
"""
