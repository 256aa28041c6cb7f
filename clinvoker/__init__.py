"""clinvoker: one fast, dependable local service over the coding-agent CLIs a person already has.

config    what can be configured
daemon    the composition root: builds the tree, serves, drains
service   what the surfaces call: checks a request, starts its run
flows     what runs do: a turn
keeping   what runs and sessions keep in the store; follower: following a run from any point
store     SQLite
records   the agents' own records of conversations
backends  one file per agent protocol
api       the HTTP surfaces
mcp       the client's tools for agents that take MCP servers
http      the ground they stand on: hypercorn and quart-trio, made safe
metrics   records to Prometheus series
logs      records and events to lines
cli       the command
"""

__version__ = "0.1.0"
