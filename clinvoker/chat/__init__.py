"""Chats of callers who send the whole conversation each time: the core under the OpenAI and the Anthropic surface.

conversation  a chat in one shape, whatever dialect it came in
models        from a model's name to a backend
asked         one turn as either dialect asks for it, and what that makes of the caller's headers
blame         which of the caller's headers a refusal is of
sources       the ids by which clients name their conversations
session       what a session was begun with, and a request cannot have otherwise
lineage       which session has had exactly this conversation so far
flights       the same request sent again joins the run in flight
tools         the client's own, and how it wants them used
held          runs that wait while the client runs them
turn          starts a chat's run: what a dialect calls
reading       follows it: what a dialect writes out
stopping      cutting an answer at a stop sequence
structured    answers that must satisfy a JSON Schema, from agents that know none
comparing     such an answer with its schema, in a process of its own (comparing_main)
checked       such an answer, corrected once if need be
failure       a turn that failed, as the answer to a request
tokens        counting where nobody has counted
"""
