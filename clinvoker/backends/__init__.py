"""The backends: how to talk to each kind of agent.

registry     the protocols, one line each: a new one is a file of its own and a line there
claude*      Claude Code: stream-json on standard input and output
codex*       Codex: the app-server's JSON-RPC
acp*         any agent that speaks the Agent Client Protocol
echo         our own ACP agent, a program of its own (this package therefore imports nothing here)
jsonrpc      the JSON-RPC peer under codex and acp
answer       what was streamed and what was said to be streamed, reconciled
surrogates   halves of characters, put together
environment  what of the daemon's environment an agent gets
choice       a request's options completed, and what an agent cannot do refused by name
probe        is it installed, and which version
"""
