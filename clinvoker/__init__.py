"""clinvoker: one fast, dependable local service over the coding-agent CLIs a person already has.

config    what can be configured
daemon    the composition root: builds the tree, serves, drains; tree: its actors
service   what the surfaces call: checks a request, starts its run
calls     what a surface asks for; claims: the same request sent again is one run
turns     how a turn is made ready and taken; flows: the turn itself; giveway: held ones make room for others
fanout    runs of several turns: parallel, chain, compare
worktrees git worktrees for tasks that must not touch the caller's checkout
callers   who calls, from key or address; policy: what they may; budget: what they may use in a day
keeping   what runs and sessions keep in the store; follower: following a run from any point
store     SQLite
records   the agents' own records of conversations
backends  one file per agent protocol
errors    the table from error codes to statuses and types
api       the HTTP surfaces
mcp       the client's tools for agents that take MCP servers
http      the ground they stand on: hypercorn and quart-trio, made safe
metrics   records to Prometheus series
tracing   spans of requests, runs and turns; otel: sending them, an extra
logs      records and events to lines
cli       the command; keys: what it does with callers' keys
"""

__version__ = "0.1.0"
